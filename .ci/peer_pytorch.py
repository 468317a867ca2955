#!/usr/bin/env python3
"""The draft step of the released shape in PyTorch, to be timed beside drafthead.

What a PyTorch user would run on a GPU without a product for MXFP8: weights and
activations in bfloat16, norms and the router in float32, attention through
scaled_dot_product_attention over the 1 024 positions of a cache (8 blocks of keys, of
which the indexer takes all, so that it is left out), the routed experts in each of
three ways. The best of them counts. Weights are random; nothing of the rest of the
repository depends on this file.

    peer_pytorch.py            on the GPU, at the released size
    peer_pytorch.py --tiny     on the CPU: every way against float64
"""
import argparse
import copy
import json
import time

import torch
import torch.nn.functional as F

WAYS = {
    "grouped": "torch's grouped_mm over pairs sorted by expert",
    "gather": "the picked experts' weights copied together, then bmm",
    "loop": "a linear for each picked expert, whose ids are read back",
}
grouped_mm = getattr(F, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)


class Head:
    def __init__(self, device, h=6144, heads=64, kv=4, dim=128, index=4, rotary=64, inner=3072, experts=128, top=4, vocab=200064, context=1024, dtype=torch.bfloat16):
        self.h, self.heads, self.kv, self.dim, self.rotary = h, heads, kv, dim, rotary
        self.inner, self.experts, self.top, self.context, self.dtype = inner, experts, top, context, dtype
        g = torch.Generator(device).manual_seed(1)
        def weight(*shape):
            return torch.randn(shape, generator=g, device=device, dtype=dtype).mul_(shape[-1] ** -0.5)
        self.embed, self.lm_head = weight(vocab, h), weight(vocab, h)
        self.eh, self.qkv, self.o = weight(h, 2 * h), weight((heads + 2 * kv + index + 1) * dim, h), weight(h, heads * dim)
        self.gate, self.bias = weight(experts, h).float(), 0.01 * torch.randn(experts, generator=g, device=device)
        self.w13, self.w2 = weight(experts, 2 * inner, h), weight(experts, h, inner)
        self.shared13, self.shared2 = weight(2 * inner, h), weight(h, inner)
        self.norms = {n: 0.1 * torch.randn(s, generator=g, device=device) for n, s in
                      dict(e=h, h=h, input=h, post=h, final=h, q=dim, k=dim).items()}
        angle = torch.arange(context + 16, device=device, dtype=torch.float64)[:, None] * 5e6 ** (-torch.arange(0, rotary, 2, device=device, dtype=torch.float64) / rotary)
        self.cos, self.sin = angle.cos().float(), angle.sin().float()

    def rms(self, x, name):
        return F.rms_norm(x.float(), x.shape[-1:], 1 + self.norms[name], 1e-6).to(self.dtype)

    def rope(self, x, positions):  # [rows, heads, dim]
        half = self.rotary // 2
        c, s = (t[positions][:, None].to(x.dtype) for t in (self.cos, self.sin))
        a, b = x[..., :half], x[..., half:self.rotary]
        return torch.cat((a * c - b * s, b * c + a * s, x[..., self.rotary:]), -1)

    def act(self, x):
        g, u = x.chunk(2, -1)
        g, u = g.clamp(max=7), u.clamp(-7, 7)
        return g * torch.sigmoid(1.702 * g) * (u + 1)

    def attend(self, x, positions, k_cache, v_cache):  # caches: [rows, kv, context, dim]
        rows, d = x.shape[0], self.dim
        q, k, v, _ = F.linear(x, self.qkv).split((self.heads * d, self.kv * d, self.kv * d, self.qkv.shape[0] - (self.heads + 2 * self.kv) * d), -1)
        q = self.rope(self.rms(q.view(rows, self.heads, d), "q"), positions)
        k = self.rope(self.rms(k.view(rows, self.kv, d), "k"), positions)
        at = torch.arange(rows, device=x.device)
        k_cache[at, :, positions], v_cache[at, :, positions] = k, v.view(rows, self.kv, d)
        mask = (torch.arange(k_cache.shape[2], device=x.device) <= positions[:, None])[:, None, None]
        y = F.scaled_dot_product_attention(q[:, :, None], k_cache, v_cache, attn_mask=mask, enable_gqa=True)
        return F.linear(y.reshape(rows, -1), self.o)

    def routed(self, x, ids, weights, way):
        rows = x.shape[0]
        if way == "loop":
            y = torch.zeros_like(x)
            picked = ids.tolist()
            for e in sorted(set(sum(picked, []))):
                row = [i for i in range(rows) if e in picked[i]]
                inner = self.act(F.linear(x[row], self.w13[e]))
                y[row] += F.linear(inner, self.w2[e]) * (weights[row] * (ids[row] == e)).sum(-1, keepdim=True).to(x.dtype)
            return y
        if way == "gather":
            pairs = x.repeat_interleave(self.top, 0)[:, :, None]
            inner = self.act(torch.bmm(self.w13[ids.flatten()], pairs)[..., 0])
            y = torch.bmm(self.w2[ids.flatten()], inner[:, :, None])[..., 0]
        else:
            order = ids.flatten().argsort()
            ends = torch.bincount(ids.flatten(), minlength=self.experts).cumsum(0).to(torch.int32) if x.device.type == "cpu" else \
                (ids.flatten()[None] <= torch.arange(self.experts, device=x.device)[:, None]).sum(1).to(torch.int32)
            inner = self.act(grouped_mm(x[order // self.top], self.w13.transpose(1, 2), offs=ends))
            sorted_y = grouped_mm(inner, self.w2.transpose(1, 2), offs=ends)
            y = torch.empty_like(sorted_y).index_copy_(0, order, sorted_y)
        return (y.view(rows, self.top, -1) * weights[..., None].to(x.dtype)).sum(1)

    def step(self, tokens, positions, hidden, caches, way):
        e = self.embed[tokens] * (positions > 0)[:, None]
        x = F.linear(torch.cat((self.rms(e, "e"), self.rms(hidden, "h")), -1), self.eh)
        r = x + self.attend(self.rms(x, "input"), positions, *caches)
        n = self.rms(r, "post")
        s = torch.sigmoid(F.linear(n.float(), self.gate))
        ids = (s + self.bias).topk(self.top, -1).indices
        w = s.gather(1, ids)
        w = w / w.sum(-1, keepdim=True) * 2
        hidden = r + self.routed(n, ids, w, way) + F.linear(self.act(F.linear(n, self.shared13)), self.shared2)
        logits = F.linear(self.rms(hidden, "final"), self.lm_head)
        top, token = logits.float().max(-1)
        return token, torch.exp(top - logits.float().logsumexp(-1)), hidden

    def chain(self, k, tokens, positions, hidden, caches, way):
        drafts = []
        for s in range(k):
            tokens, p, hidden = self.step(tokens, positions + s, hidden, caches, way)
            drafts.append((tokens, p))
        return drafts

    def inputs(self, rows, seed):
        g = torch.Generator(self.embed.device).manual_seed(seed)
        def random(*shape):
            return torch.randn(shape, generator=g, device=self.embed.device, dtype=self.dtype)
        return (torch.randint(self.embed.shape[0], (rows,), generator=g, device=self.embed.device),
                torch.full((rows,), self.context - 8, device=self.embed.device), random(rows, self.h))

    def caches(self, rows):
        return [torch.randn(rows, self.kv, self.context, self.dim, device=self.embed.device, dtype=self.dtype) for _ in range(2)]


def spread(seconds):
    s = sorted(seconds)
    return s[len(s) // 2], (s[len(s) * 9 // 10] - s[len(s) // 10]) / s[len(s) // 2]


def measure(call, least=0.4):
    for _ in range(5):
        call(0)
    torch.cuda.synchronize()
    seconds, start = [], time.perf_counter()
    while len(seconds) < 100 or time.perf_counter() - start < least and len(seconds) < 1000:
        begin = time.perf_counter()
        call(len(seconds))
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return spread(seconds)


def graph(head, k, rows, caches, way):
    """A recorded chain with inputs of its own, which a call fills."""
    static = [t.clone() for t in head.inputs(rows, 0)]
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            head.chain(k, *static, caches, way)
    torch.cuda.synchronize()
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        head.chain(k, *static, caches, way)
    def run(inputs):
        for to, value in zip(static, inputs):
            to.copy_(value, non_blocking=True)
        g.replay()
    return run


def benchmark():
    head, rows_out = Head("cuda"), []
    with torch.no_grad():
        for k, rows in ((1, 1), (4, 1), (1, 4), (1, 16)):
            caches, inputs = head.caches(rows), [head.inputs(rows, s) for s in range(4)]
            for way in WAYS:
                for mode in ("eager", "graph") if way != "loop" else ("eager",):  # which waits for the ids
                    row = {"k": k, "rows": rows, "experts": way, "mode": mode}
                    try:
                        if mode == "eager":
                            call = lambda i: head.chain(k, *inputs[i % 4], caches, way)
                        else:
                            run = graph(head, k, rows, caches, way)
                            call = lambda i: run(inputs[i % 4])
                        row["seconds"], row["spread"] = measure(call)
                    except Exception as e:  # a way that this version or a graph does not take
                        row["error"] = str(e).split("\n")[0][:60]
                    rows_out.append(row)
                    torch.cuda.synchronize()
    print(f"{'rows':>4} {'chain':>5} {'mode':>6} {'experts':>8} {'ms':>8} {'spread':>7}")
    for r in rows_out:
        tail = f"{1e3 * r['seconds']:8.3f} {100 * r['spread']:6.1f}%" if "seconds" in r else "  " + r["error"]
        print(f"{r['rows']:4} {r['k']:5} {r['mode']:>6} {r['experts']:>8} {tail}")
    print(json.dumps({"torch": torch.__version__, "device": torch.cuda.get_device_name(), "rows": rows_out}))


def check():
    """Every way of the experts against the same step in float64."""
    small = dict(h=64, heads=8, kv=2, dim=32, index=2, rotary=16, inner=32, experts=8, top=2, vocab=160, context=32)
    head = Head("cpu", **small)
    exact = copy.copy(head)
    exact.dtype = torch.float64
    for name, value in vars(head).items():
        if torch.is_tensor(value) and name not in ("cos", "sin", "gate", "bias"):
            setattr(exact, name, value.double())
    exact.rms = lambda x, n: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * (1 + head.norms[n].double())
    for rows in (1, 3):
        inputs, caches = head.inputs(rows, 5), head.caches(rows)
        _, want_p, want = exact.step(inputs[0], inputs[1], inputs[2].double(), [c.double() for c in caches], "loop")
        for way in WAYS:
            try:
                _, p, got = head.step(*inputs, [c.clone() for c in caches], way)
            except (RuntimeError, NotImplementedError, TypeError) as e:
                print(rows, way, "not on this CPU:", str(e).split("\n")[0][:80])
                continue
            off = ((got.double() - want).abs().max() / want.abs().max()).item()
            print(rows, way, f"{off:.4f} of the largest, probability {p[0].item():.4f} for {want_p[0].item():.4f}")
            assert off < 0.03, way


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tiny", action="store_true")
    with torch.no_grad():
        check() if arguments.parse_args().tiny else benchmark()
