package cli

import (
	"flag"
	"fmt"
	"strconv"
)

// Auto is the value of -k with which a program learns how many tokens to draft.
const Auto = "auto"

const mostAuto = 8 // drafts that -k auto chooses

// Drafts is the flag -k of programs with a live target: drafts per step, from least on.
func Drafts(flags *flag.FlagSet, k *string, least int, value string) {
	usage := fmt.Sprintf("`drafts` per step, %d to 64, or auto: as many as pay, up to %d", least, mostAuto)
	if least == 0 {
		usage += "; 0: the target writes alone"
	}
	flags.StringVar(k, "k", value, usage)
}

// CheckDrafts returns the most drafts per step that -k allows.
func (r *Refused) CheckDrafts(k string, least int) int {
	if k == Auto {
		return mostAuto
	}
	drafts, err := strconv.Atoi(k)
	r.If(err != nil || drafts < least || drafts > 64, "-k is %s, want %d to 64, or auto", k, least)
	return drafts
}
