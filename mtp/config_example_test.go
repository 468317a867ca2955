package mtp_test

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/mtp"
)

func ExampleParseConfig() {
	_, err := mtp.ParseConfig([]byte(`{"model_type": "minimax_m3_vl", "text_config": null}`))
	fmt.Println(err)

	var problem *mtp.InputError
	if errors.As(err, &problem) {
		fmt.Println(problem.Field, "should be", problem.Want)
	}
	// Output:
	// mtp: config.json: text_config: missing key: got nothing, want an object
	// text_config should be an object
}
