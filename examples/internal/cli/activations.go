package cli

import (
	"errors"
	"flag"

	"github.com/drafthead/drafthead/hip"
)

// Activations adds the flag -activations, whose value is Activations of mtp.Options.
func Activations(flags *flag.FlagSet, to *hip.Activations) {
	const usage = "`rounding` of the rows that MXFP8 weights multiply, where there are at least 5: exact, or mxfp8; default: exact"
	flags.Func("activations", usage, func(text string) error {
		for _, a := range []hip.Activations{hip.ActivationsExact, hip.ActivationsMXFP8} {
			if text == a.String() {
				*to = a
				return nil
			}
		}
		return errors.New("want exact or mxfp8")
	})
}
