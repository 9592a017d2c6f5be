"""Makes `words.npz`: a small vector for each common English word, by which the verifier sees near synonyms.

    python bench/lexicon/words.py

Each whole word of WordPiece's vocabulary (they stand there in order of frequency) is embedded alone by
all-MiniLM-L6-v2, centred, turned to its 64 strongest directions and kept as int8.
WordNet's other words follow them. About 2 MB.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from edgewise.query.embed.minilm import MiniLm

DIMS = 64
OUT = Path("shared/edgewise/cache/semantic/lexicon/words.npz")
VOCABULARY = Path("shared/edgewise/query/embed/wordpiece.txt")


def main() -> None:
    words = [word for word in VOCABULARY.read_text("utf-8").split("\n") if re.fullmatch(r"[a-z]{2,}", word)]
    wordnet = (line.split("\t")[0] for line in OUT.with_name("wordnet.txt").read_text("utf-8").splitlines()[1:])
    words += sorted(set(wordnet) - set(words))
    rows = MiniLm().encode(words)
    rows -= rows.mean(axis=0)
    _, _, turn = np.linalg.svd(rows, full_matrices=False)
    small = rows @ turn[:DIMS].T
    small /= np.abs(small).max(axis=1, keepdims=True)
    np.savez_compressed(
        OUT, rows=np.round(small * 127).astype(np.int8), words=np.frombuffer("\n".join(words).encode(), np.uint8)
    )


if __name__ == "__main__":
    main()
