package mtp_test

import (
	"errors"
	"fmt"
	"testing/fstest"

	"github.com/drafthead/drafthead/mtp"
)

func ExampleReadConfig() {
	folder := fstest.MapFS{"config.json": {Data: []byte(`{"model_type": "minimax_m3_vl", "text_config": null}`)}}
	_, err := mtp.ReadConfig(folder)
	fmt.Println(err)

	var problem *mtp.InputError
	if errors.As(err, &problem) {
		fmt.Println(problem.Field, "should be", problem.Want)
	}
	// Output:
	// mtp: config.json: text_config: missing key: got nothing, want an object
	// text_config should be an object
}
