"""peer_pytorch.py over several GPUs: one process each, which exchange data by NCCL.

Each rank holds its part of the heads, of the experts' inner columns and of the vocabulary.
A step sums attention and experts over the ranks, and gathers each rank's best token with
its logit and the sum of its exponentials. Recorded as CUDA graphs.
Nothing depends on this file. python3 peer_pytorch_ranks.py RANKS
"""

import os, sys
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
import torch.nn.functional as F
import peer_pytorch as alone


class Rank(alone.Head):
    def __init__(self, rank, ranks):
        part = {k: max(1, v // ranks) if k in ("heads", "kv", "inner", "vocab") else v for k, v in alone.M3.items()}
        super().__init__(part, "cuda", torch.bfloat16, 16)
        self.ranks, self.first = ranks, rank * part["vocab"]
        self.embed = torch.randn(part["vocab"] * ranks, part["hidden"], device="cuda", dtype=torch.bfloat16)

    def attention(self, x, p):
        part = super().attention(x, p)
        dist.all_reduce(part)
        return part

    def moe(self, x, how):
        part = super().moe(x, how)
        dist.all_reduce(part)
        return part

    def step(self, tokens, p, hidden, how):
        embedding = torch.where((p == 0)[:, None], 0, self.embed[tokens])
        both = torch.cat([alone.rms(embedding, self.enorm), alone.rms(hidden, self.hnorm)], -1)
        x = F.linear(both, self.eh)
        x = x + self.attention(alone.rms(x, self.input_norm), p)
        hidden = x + self.moe(alone.rms(x, self.post_norm), how)
        logits = F.linear(alone.rms(hidden, self.final_norm), self.lm_head).float()
        largest, best = logits.max(-1)
        record = torch.stack([largest, (logits - largest[:, None]).exp().sum(-1), (best + self.first).float()])
        records = record.new_empty(self.ranks, *record.shape)
        dist.all_gather_into_tensor(records, record)
        top, rank = records[:, 0].max(0)
        total = (records[:, 1] * (records[:, 0] - top).exp()).sum(0)
        return records[:, 2].gather(0, rank[None])[0].long(), 1 / total, hidden


def work(rank, ranks):
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT="29517")
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", rank=rank, world_size=ranks, device_id=torch.device("cuda", rank))
    with torch.inference_mode():
        head = Rank(rank, ranks)
    for rows, k in (1, 1), (1, 4), (4, 1), (16, 1):
        for how in "gather", "grouped":
            torch.manual_seed(5)  # the same inputs everywhere
            dist.barrier()
            r = alone.measure(head, rows, k, how, True, 60)
            if rank == 0:
                print(f"{r['work']:12} {rows:3} rows  {how:8} gpu {r['gpu_ms']:.3f} ms, wall {r['wall_ms']:.3f} ms, spread {r['wall_spread']:.1%}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    ranks = int(sys.argv[1])
    processes.spawn(work, args=(ranks,), nprocs=ranks)
