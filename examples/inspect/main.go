// Inspect says what a checkpoint holds for the MTP draft head and whether it
// would load:
//
//	inspect [-json] [-wide] [-weights] [-modules N] [-tp RANK/SIZE] [-ep RANK/SIZE] DIR
//
// It reads config.json and the headers of the weights, so it takes no time and
// no memory on a checkpoint of any size; with -weights it reads the head's weights too. It
// exits with 0 if the head loads, with 1 if it does not, and with 2 on wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/mtp"
)

const usage = `Inspect says what a checkpoint holds of a head, and whether it loads.

  inspect DIR                                # headers alone: takes no time
  inspect -weights DIR                       # are the values sound, too?

usage: inspect [flags] DIR

DIR holds config.json and *.safetensors, bundled with the target model or
standalone. Only headers are read, except with -weights. All problems of the
config and the files are listed, and if there are none all problems of the
tensors.

-weights reads the values too: tensors that are all zero or hold NaN or
infinities are problems, and norms centered on 1 (weights for x·w, not x·(1+w))
are noted.

exit status: 0 loads, 1 does not load, 2 wrong usage

flags:
`

func main() { cli.Main(run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	stdout, stderr = cli.Plain(stdout), cli.Plain(stderr)
	flags := cli.Flags("inspect", usage, stderr)
	var opts mtp.Options
	asJSON := flags.Bool("json", false, "print one JSON object in place of text")
	wide := flags.Bool("wide", false, "print each parameter in one line, however long")
	flags.Var(&shardFlag{&opts.TensorParallel}, "tp", "inspect the share of tensor-parallel `RANK/SIZE`, 0/4 for example")
	flags.Var(&shardFlag{&opts.ExpertParallel}, "ep", "inspect the share of expert-parallel `RANK/SIZE`")
	flags.BoolVar(&opts.CheckWeights, "weights", false, "read the values of the weights too")
	cli.Modules(flags, &opts.Modules)
	dirs, err := cli.Parse(flags, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return cli.OK
	case err != nil:
		return cli.Usage
	case len(dirs) != 1:
		cli.Wrong(flags, "want one folder, got %d arguments %q", len(dirs), dirs)
		return cli.Usage
	}
	var wrong cli.Refused
	if wrong.CheckModules(opts.Modules); len(wrong) > 0 {
		cli.Wrong(flags, "%v", wrong.Err())
		return cli.Usage
	}
	progress, done := cli.Progress(stderr, "read", "bytes")
	opts.Progress = progress
	inspected := make(chan *inspection, 1)
	go func() { inspected <- inspect(dirs[0], opts) }() // which an interrupt need not wait for
	var in *inspection
	select {
	case in = <-inspected:
	case <-ctx.Done():
	}
	done()
	if err := ctx.Err(); err != nil {
		return cli.Fail(ctx, stderr, "inspect", err)
	}
	if err := in.write(stdout, *asJSON, *wide); err != nil {
		return cli.Fail(ctx, stderr, "inspect", err)
	}
	if !in.OK {
		return cli.Failed
	}
	return cli.OK
}

func (in *inspection) write(w io.Writer, asJSON, wide bool) error {
	if asJSON {
		return cli.WriteJSON(w, in)
	}
	return in.print(w, wide)
}

// shardFlag reads a share as RANK/SIZE.
type shardFlag struct{ shard *mtp.Shard }

func (f *shardFlag) String() string {
	if f.shard == nil || *f.shard == (mtp.Shard{}) {
		return ""
	}
	return fmt.Sprintf("%d/%d", f.shard.Rank, f.shard.Size)
}

func (f *shardFlag) Set(s string) error {
	before, after, found := strings.Cut(s, "/")
	rank, rankErr := strconv.Atoi(before)
	size, sizeErr := strconv.Atoi(after)
	if !found || rankErr != nil || sizeErr != nil || size < 1 || rank < 0 || rank >= size {
		return errors.New("want RANK/SIZE with 0 ≤ RANK < SIZE")
	}
	*f.shard = mtp.Shard{Rank: rank, Size: size}
	return nil
}
