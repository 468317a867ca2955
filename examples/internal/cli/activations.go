package cli

import (
	"errors"
	"flag"

	"github.com/drafthead/drafthead/hip"
)

// Activations adds the flag -activations, whose value is Activations of mtp.Options, and
// -draft-activations, that of DraftActivations.
func Activations(flags *flag.FlagSet, to, drafts *hip.Activations) {
	rounding(flags, "activations", "`rounding` of the rows that MXFP8 weights multiply, where there are at least 5: exact, or mxfp8; default: exact",
		to, "want exact or mxfp8", hip.ActivationsExact, hip.ActivationsMXFP8)
	rounding(flags, "draft-activations", "`rounding` of what only leads to drafts, on a CPU that multiplies bfloat16: exact, bf16x2 or bf16; default: exact, as the device has it",
		drafts, "want exact, bf16x2 or bf16", hip.ActivationsExact, hip.ActivationsBF16x2, hip.ActivationsBF16)
}

// rounding adds a flag of one of some values.
func rounding(flags *flag.FlagSet, name, usage string, to *hip.Activations, want string, values ...hip.Activations) {
	flags.Func(name, usage, func(text string) error {
		for _, a := range values {
			if text == a.String() {
				*to = a
				return nil
			}
		}
		return errors.New(want)
	})
}
