"""The same draft step in PyTorch, as a peer for the speed of `bench -shape m3`.

Random weights of the released shape in bfloat16, as a PyTorch user would hold them:
MXFP8 has no native product there on an H100, so it is decoded while loading. A step
here therefore reads about twice the bytes of ours, but for lm_head and embed_tokens,
which are bfloat16 in both. Activations are bfloat16; norms, router and softmax are
float32. 1 024 positions lie in a contiguous cache; all their blocks are selected.

The picked experts are multiplied in three ways, since none is the best everywhere:
gather   copies their weights, then bmm: no word from the host, so also as a graph
grouped  one grouped_mm over sorted rows, which reads the weights in place; likewise
host     asks for the picked experts and uses slices of the weights; eager only

"gpu ms" is between two events on the stream; "wall ms" from inputs on the host to the
drafted tokens on the host. Medians over the runs; spread is (p90 - p10) / median.
Nothing depends on this file. python3 peer_pytorch.py [--runs N] [--tiny]
"""

import argparse, json, math, statistics, time
import torch
import torch.nn.functional as F

M3 = dict(hidden=6144, heads=64, kv=4, dim=128, rotary=64, index=128, block=128, top_blocks=16,
          experts=128, top=4, inner=3072, vocab=200064, theta=5e6, context=1024)
TINY = dict(hidden=64, heads=8, kv=4, dim=16, rotary=8, index=16, block=8, top_blocks=16,
            experts=8, top=4, inner=32, vocab=96, theta=1e4, context=41)
SCALE, ALPHA, LIMIT, BETA, EPS = 2.0, 1.702, 7.0, 1.0, 1e-6

def rms(x, w):
    return F.rms_norm(x, x.shape[-1:], w, EPS)  # w has the 1 of (1 + w) in it

def act(gate_up):
    g, u = gate_up.chunk(2, -1)
    g = g.clamp(max=LIMIT)
    return g * torch.sigmoid(ALPHA * g) * (u.clamp(-LIMIT, LIMIT) + BETA)

class Head:
    def __init__(self, s, device, dtype, sequences):
        self.s, self.device, self.dtype = s, device, dtype
        torch.manual_seed(1)
        def matrix(*shape, dtype=dtype):
            return torch.randn(*shape, device=device, dtype=dtype).mul_(shape[-1] ** -0.5)
        def vector(n):
            return (1 + 0.1 * torch.randn(n, device=device)).to(dtype)
        h, d, i = s["hidden"], s["dim"], s["inner"]
        self.widths = [s["heads"] * d, s["kv"] * d, s["kv"] * d, s["kv"] * s["index"], s["index"]]
        self.embed, self.lm_head = torch.randn(s["vocab"], h, device=device, dtype=dtype), matrix(s["vocab"], h)
        self.enorm, self.hnorm, self.input_norm, self.post_norm, self.final_norm = (vector(h) for _ in range(5))
        self.q_norm, self.k_norm, self.iq_norm, self.ik_norm = vector(d), vector(d), vector(s["index"]), vector(s["index"])
        self.eh, self.qkv, self.o = matrix(h, 2 * h), matrix(sum(self.widths), h), matrix(h, s["heads"] * d)
        self.gate, self.bias = matrix(s["experts"], h, dtype=torch.float32), 0.1 * torch.randn(s["experts"], device=device)
        self.w13, self.w2 = matrix(s["experts"], 2 * i, h), matrix(s["experts"], h, i)
        self.shared13, self.shared2 = matrix(2 * i, h), matrix(h, i)
        self.length = (s["context"] + 8 + s["block"] - 1) // s["block"] * s["block"]
        cache = lambda heads, width: torch.randn(sequences, heads, self.length, width, device=device, dtype=dtype)
        self.keys, self.values, self.index_keys = cache(s["kv"], d), cache(s["kv"], d), cache(1, s["index"])[:, 0]
        half = s["rotary"] // 2
        angles = torch.arange(self.length).double()[:, None] * s["theta"] ** (-torch.arange(half).double() / half)
        self.cos, self.sin = angles.cos().float().to(device), angles.sin().float().to(device)
        self.at = torch.arange(self.length, device=device)

    def rope(self, x, p):
        half = self.s["rotary"] // 2
        a, b, rest = x[..., :half].float(), x[..., half:2 * half].float(), x[..., 2 * half:]
        c, s = self.cos[p][:, None], self.sin[p][:, None]
        return torch.cat([(a * c - b * s).to(x.dtype), (b * c + a * s).to(x.dtype), rest], -1)

    def attention(self, x, p):
        s, n = self.s, len(x)
        q, k, v, iq, ik = F.linear(x, self.qkv).split(self.widths, -1)
        q = self.rope(rms(q.view(n, s["heads"], s["dim"]), self.q_norm), p)
        k = self.rope(rms(k.view(n, s["kv"], s["dim"]), self.k_norm), p)
        iq = self.rope(rms(iq.view(n, s["kv"], s["index"]), self.iq_norm), p)
        ik = self.rope(rms(ik.view(n, 1, s["index"]), self.ik_norm), p)
        row = torch.arange(n, device=x.device)
        self.keys[row, :, p], self.values[row, :, p], self.index_keys[row, p] = k, v.view(n, s["kv"], s["dim"]), ik[:, 0]
        visible = (self.at <= p[:, None])[:, None]
        scores = (iq @ self.index_keys[:n].transpose(1, 2)).float().masked_fill(~visible, -math.inf)
        blocks = scores.unflatten(-1, (-1, s["block"])).amax(-1)
        blocks.scatter_(-1, (p // s["block"])[:, None, None].expand(n, s["kv"], 1), math.inf)  # the local block
        chosen = blocks.topk(min(s["top_blocks"], blocks.shape[-1])).indices
        keep = torch.zeros_like(blocks, dtype=torch.bool).scatter_(-1, chosen, True)
        mask = keep[..., None].expand(*keep.shape, s["block"]).flatten(-2) & visible
        group = s["heads"] // s["kv"]  # query heads of a KV head, as rows of one attention
        out = F.scaled_dot_product_attention(q.view(n, s["kv"], group, s["dim"]), self.keys[:n], self.values[:n],
                                             attn_mask=mask[:, :, None].expand(n, s["kv"], group, self.length))
        return F.linear(out.reshape(n, -1), self.o)

    def moe(self, x, how):
        s, n, top = self.s, len(x), self.s["top"]
        scores = torch.sigmoid(F.linear(x.float(), self.gate))
        pick = (scores + self.bias).topk(top).indices
        w = scores.gather(-1, pick)
        w = w / w.sum(-1, keepdim=True) * SCALE
        ids = pick.flatten()
        if how == "gather":
            y = torch.bmm(self.w13[ids], x.repeat_interleave(top, 0)[..., None])[..., 0]
            y = torch.bmm(self.w2[ids], act(y)[..., None])[..., 0]
        elif how == "grouped":
            grouped = getattr(F, "grouped_mm", None) or torch._grouped_mm
            ids, order = ids.sort(stable=True)
            ends = (ids <= torch.arange(s["experts"], device=x.device)[:, None]).sum(1, dtype=torch.int32)
            y = grouped(x[order // top], self.w13.transpose(1, 2), offs=ends)
            y = grouped(act(y), self.w2.transpose(1, 2), offs=ends)
            y = torch.empty_like(y).index_copy_(0, order, y)
        else:
            y = torch.cat([F.linear(act(F.linear(x[i // top][None], self.w13[e])), self.w2[e]) for i, e in enumerate(ids.tolist())])
        routed = (y.view(n, top, -1).float() * w[..., None]).sum(1)
        return (routed + F.linear(act(F.linear(x, self.shared13)), self.shared2)).to(x.dtype)

    def step(self, tokens, p, hidden, how):
        e = torch.where((p == 0)[:, None], 0, self.embed[tokens])
        r = F.linear(torch.cat([rms(e, self.enorm), rms(hidden, self.hnorm)], -1), self.eh)
        r = r + self.attention(rms(r, self.input_norm), p)
        hidden = r + self.moe(rms(r, self.post_norm), how)
        logits = F.linear(rms(hidden, self.final_norm), self.lm_head)
        probability, ids = logits.softmax(-1, dtype=torch.float32).max(-1)
        return ids, probability, hidden

    def chain(self, tokens, p, hidden, how, k):
        drafts = []
        for i in range(k):
            tokens, probability, hidden = self.step(tokens, p + i, hidden, how)
            drafts.append(torch.stack([tokens.float(), probability]))
        return torch.stack(drafts)

@torch.inference_mode()
def check(head):
    """One row against the plain formulas of the model, in float32: every key, every expert."""
    s, inputs = head.s, [x[:3] for x in make_inputs(head, 3)[0]]
    inputs[1][2] = 0  # one row is masked
    ids, _, hidden = head.step(*inputs, "host")
    for how in "gather", "grouped":
        other = head.step(*inputs, how)
        assert torch.equal(ids, other[0]) and torch.allclose(hidden, other[2], atol=1e-4, rtol=1e-4), how
    for r, (t, p, h) in enumerate(zip(*inputs)):
        norm = lambda x, w: x / (x.square().mean() + EPS).sqrt() * w
        x = head.eh @ torch.cat([norm(head.embed[t] * (p != 0), head.enorm), norm(h, head.hnorm)])
        q = (head.qkv @ norm(x, head.input_norm))[:head.widths[0]].view(s["heads"], -1)
        half, heads = s["rotary"] // 2, []
        for i, v in enumerate(q):  # rotation as a product of complex numbers
            v = norm(v, head.q_norm)
            z = torch.complex(v[:half], v[half:2 * half]) * torch.polar(torch.ones(half), torch.atan2(head.sin[p], head.cos[p]))
            v = torch.cat([z.real, z.imag, v[2 * half:]])
            g = i // (s["heads"] // s["kv"])
            weight = (head.keys[r, g, :p + 1] @ v * s["dim"] ** -0.5).softmax(0)
            heads.append(weight @ head.values[r, g, :p + 1])
        x = x + head.o @ torch.cat(heads)
        y = norm(x, head.post_norm)
        score = torch.sigmoid(head.gate @ y)
        best = sorted(range(s["experts"]), key=lambda e: -float(score[e] + head.bias[e]))[:s["top"]]
        total = sum(score[e] for e in best)
        x = x + head.shared2 @ act(head.shared13 @ y) + sum(SCALE * score[e] / total * (head.w2[e] @ act(head.w13[e] @ y)) for e in best)
        assert torch.allclose(x, hidden[r], atol=1e-4, rtol=1e-4), f"row {r}: off by {(x - hidden[r]).abs().max()}"
        assert int((head.lm_head @ norm(x, head.final_norm)).argmax()) == int(ids[r]), f"row {r}: another token"

def make_inputs(head, n, count=4):
    pin = (lambda x: x.pin_memory()) if head.device == "cuda" else (lambda x: x)
    return [[pin(torch.randint(head.s["vocab"], (n,))), pin(torch.full((n,), head.s["context"])),
             pin(torch.randn(n, head.s["hidden"]).to(head.dtype))] for _ in range(count)]

@torch.inference_mode()
def measure(head, n, k, how, graph, runs):
    cuda, inputs = head.device == "cuda", make_inputs(head, n)
    static = [x.to(head.device) for x in inputs[0]]
    run = lambda: head.chain(*static, how, k)
    if graph:
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            run(), run()
        torch.cuda.synchronize()
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            result = run()
        run = lambda: (recorded.replay(), result)[1]
    gpu, wall = [], []
    for i in range(runs + 5):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2)) if cuda else (None, None)
        start = time.perf_counter()
        for to, x in zip(static, inputs[i % len(inputs)]):
            to.copy_(x, non_blocking=True)
        if cuda: begin.record()
        out = run()
        if cuda: end.record()
        out = out.tolist()  # waits
        if i >= 5:
            wall.append((time.perf_counter() - start) * 1e3)
            gpu.append(begin.elapsed_time(end) if cuda else wall[-1])
    def figures(ms):
        q = statistics.quantiles(ms, n=10)
        return statistics.median(ms), (q[8] - q[0]) / statistics.median(ms)
    (gpu_ms, gpu_spread), (wall_ms, wall_spread) = figures(gpu), figures(wall)
    return dict(work=f"chain of {k}" if k > 1 else "step", rows=n, mode="graph" if graph else "eager", experts=how,
                gpu_ms=gpu_ms, gpu_spread=gpu_spread, wall_ms=wall_ms, wall_spread=wall_spread, runs=runs)

def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--runs", type=int, default=100)
    flags.add_argument("--tiny", action="store_true", help="a tiny shape on the CPU: checks the formulas and runs what needs no GPU")
    args = flags.parse_args()
    device = "cpu" if args.tiny else "cuda"
    head = Head(TINY if args.tiny else M3, device, torch.float32 if args.tiny else torch.bfloat16, 16)
    if args.tiny: check(head)
    rows = []
    for n, k in (1, 1), (1, 4), (4, 1), (16, 1):
        for how in "gather", "grouped", "host":
            for graph in (False, True)[:1 if args.tiny or how == "host" else 2]:
                try:
                    rows.append(measure(head, n, k, how, graph, args.runs))
                except (RuntimeError, AttributeError) as e:  # an operation that this version lacks
                    rows.append(dict(work=f"chain of {k}" if k > 1 else "step", rows=n, mode="graph" if graph else "eager", experts=how, error=str(e)[:200]))
    print(f"{'work':>10}  rows   mode  experts  gpu ms  spread  wall ms  spread  runs")
    for r in rows:
        line = f"{r['work']:>10}  {r['rows']:4}  {r['mode']}  {r['experts']:>7}  "
        print(line + (f"failed: {r['error']}" if "error" in r else f"{r['gpu_ms']:6.3f}  {r['gpu_spread']:6.1%}  {r['wall_ms']:7.3f}  {r['wall_spread']:6.1%}  {r['runs']:4}"))
    name = "CPU" if args.tiny else torch.cuda.get_device_name()
    print(json.dumps(dict(torch=torch.__version__, device=name, rows=rows)))

if __name__ == "__main__":
    main()
