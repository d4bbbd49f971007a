"""What 117 starts of vLLM 0.6 recorded, on an H100 with 64 GB (NVML: 65,247 MiB, of which the driver keeps 294).

Numbers retyped from the raw data of "Mind the Memory Gap" (arXiv 2503.08311; FerranAgulloLopez/vLLMBatchingMemoryGap,
Apache-2.0). Per model and set of runs, a start is ``max_num_seqs gpu_memory_utilization peak non_torch blocks``, the
middle ones in GiB to two digits, and how often it was recorded where that is more than once. The second set ran with
shorter sequences than the first.
"""

from __future__ import annotations

from typing import NamedTuple

GIB = 1 << 30
VISIBLE = (65_247 - 294) << 20
SWAP = 4 * GIB


class Start(NamedTuple):
    """One start. ``first``: of the first set. ``peak``, ``non_torch``: bytes as printed."""

    model: str
    first: bool
    sequences: int
    utilization: float
    peak: int
    non_torch: int
    blocks: int


CPU_BLOCKS = {"opt-1.3b": 1365, "opt-2.7b": 819, "llama-2-7b": 512, "llama-2-13b": 327}

RECORDED = {
    ("llama-2-13b", True): """
        1 0.9 24.55 0.1 2657; 2 0.9 24.55 0.1 2657; 4 0.9 24.55 0.1 2657; 8 0.9 24.55 0.1 2657; 16 0.9 24.55 0.1
        2657; 32 0.9 24.55 0.1 2657; 64 0.9 24.55 0.1 2657; 80 0.9 24.55 0.1 2657; 96 0.9 24.55 0.1 2657; 128 0.9
        24.55 0.1 2657; 160 0.9 24.55 0.1 2657; 192 0.9 24.55 0.1 2657; 256 0.9 24.62 0.1 2651; 512 0.9 24.92 0.1
        2627
    """,
    ("llama-2-13b", False): """
        4 0.9 24.38 0.1 2671; 8 0.9 24.38 0.1 2671; 16 0.9 24.38 0.1 2671; 32 0.9 24.38 0.1 2671; 64 0.9 24.42 0.1
        2668; 128 0.9 24.47 0.1 2664; 256 0.9 24.61 0.1 2652; 512 0.9 24.9 0.1 2628
    """,
    ("llama-2-7b", True): """
        1 0.9 12.77 0.1 5659; 2 0.9 12.77 0.1 5659; 4 0.9 12.77 0.1 5659; 8 0.9 12.77 0.1 5659; 16 0.9 12.77 0.1
        5659; 32 0.9 12.77 0.1 5659; 64 0.9 12.77 0.1 5659; 96 0.9 12.77 0.1 5659; 128 0.9 12.77 0.1 5659; 192 0.9
        12.82 0.1 5654; 256 0.9 12.89 0.1 5644; 512 0.9 13.18 0.1 5607
    """,
    ("llama-2-7b", False): """
        1 0.9 12.63 0.1 5677; 2 0.9 12.63 0.1 5677; 4 0.9 12.63 0.1 5677; 8 0.9 12.63 0.1 5677; 16 0.9 12.63 0.1
        5677; 32 0.9 12.64 0.1 5677; 64 0.9 12.68 0.1 5671; 128 0.9 12.73 0.1 5664; 256 0.9 12.88 0.1 5646; 512 0.9
        13.17 0.1 5608
    """,
    ("opt-1.3b", True): """
        1 0.9 2.58 0.1 18573; 2 0.9 2.58 0.1 18573; 4 0.9 2.58 0.1 18573; 8 0.9 2.58 0.1 18573; 16 0.9 2.58 0.1
        18573; 32 0.9 2.58 0.1 18573; 64 0.9 2.64 0.1 18550; 96 0.225 2.72 0.39 3810 x2; 96 0.225 2.72 0.51 3770; 96
        0.225 2.72 0.58 3744; 96 0.45 2.72 0.2 8748; 96 0.45 2.72 0.2 8749; 96 0.9 2.72 0.1 18525 x2; 128 0.9 2.72
        0.1 18524; 192 0.9 2.83 0.1 18485; 256 0.225 2.95 0.39 3731; 256 0.225 2.95 0.83 3581; 256 0.225 2.95 0.86
        3570 x2; 256 0.45 2.95 0.2 8669 x2; 256 0.9 2.95 0.1 18446 x2; 384 0.9 3.18 0.1 18368; 512 0.9 3.4 0.1
        18291; 640 0.9 3.63 0.1 18213; 768 0.9 3.86 0.1 18135 x3
    """,
    ("opt-1.3b", False): """
        1 0.9 2.51 0.1 18597; 2 0.9 2.51 0.1 18597; 4 0.9 2.51 0.1 18597; 8 0.9 2.51 0.1 18596; 16 0.9 2.53 0.1
        18590; 32 0.9 2.56 0.1 18578; 64 0.9 2.64 0.1 18552; 128 0.9 2.71 0.1 18526; 256 0.9 2.94 0.1 18448; 512 0.9
        3.4 0.1 18293
    """,
    ("opt-2.7b", True): """
        1 0.9 5.1 0.1 10626; 2 0.9 5.1 0.1 10626; 4 0.9 5.1 0.1 10626; 8 0.9 5.1 0.1 10626; 16 0.9 5.1 0.1 10626; 32
        0.9 5.1 0.1 10626; 64 0.9 5.15 0.1 10617; 96 0.45 5.22 0.2 4736; 96 0.45 5.22 0.4 4693; 96 0.9 5.22 0.1
        10601 x2; 128 0.45 5.23 0.2 4735; 128 0.45 5.23 0.52 4668; 128 0.9 5.23 0.1 10601 x2; 192 0.9 5.34 0.1
        10578; 256 0.45 5.45 0.2 4688; 256 0.45 5.45 0.44 4639; 256 0.9 5.45 0.1 10554; 384 0.9 5.68 0.1 10507 x3;
        512 0.9 5.91 0.1 10461
    """,
    ("opt-2.7b", False): """
        1 0.9 5.02 0.1 10644; 2 0.9 5.02 0.1 10644; 4 0.9 5.02 0.1 10644; 16 0.9 5.03 0.1 10641; 32 0.9 5.06 0.1
        10634; 64 0.9 5.14 0.1 10618; 128 0.9 5.22 0.1 10602; 256 0.9 5.45 0.1 10555; 512 0.9 5.9 0.1 10462
    """,
}


def starts() -> list[Start]:
    """All of them, one by one."""
    found = []
    for (model, first), text in RECORDED.items():
        for row in text.split(";"):
            sequences, utilization, peak, non_torch, blocks, *times = row.split()
            start = Start(
                model, first, int(sequences), float(utilization), _bytes(peak), _bytes(non_torch), int(blocks)
            )
            found += [start] * (int(times[0][1:]) if times else 1)
    return found


def _bytes(gib: str) -> int:
    whole, _, part = gib.partition(".")
    return int(whole + part) * GIB // int("1" + "0" * len(part))
