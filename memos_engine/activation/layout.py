"""Where the parts of a composed prefix stand, and which of them are exact as they are.

A block is exact where it stands behind just the tokens it was encoded behind; everything from the first
block on that is not, is stale. What was read before (a chain's prefix) is exact, too, and goes first.
Nothing here moves or computes a tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memos_engine.activation.chain import Chain, chain_root
from memos_engine.activation.plan import Size
from memos_engine.activation.values import KVBlock, LayerKV, Prefix
from memos_engine.errors import BadInput
from memos_engine.models.local import LocalModel

__all__ = ["Layout", "laid_out"]


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """Where everything stands."""

    ids: tuple[int, ...]
    """Of the head, the blocks and the query."""
    head_end: int
    """Where the tokens before the first block end."""
    query_start: int
    known: Prefix
    """What was read before, from position 0; it may hold no token."""
    placed: tuple[tuple[int, KVBlock], ...]
    """Position of each block's first token, and the block."""
    exact_end: int
    """Up to here nothing is stale; between `known` and the first block, tokens may be fresh."""

    @property
    def fresh(self) -> range:
        """Positions at the head that nothing holds."""
        return range(len(self.known.ids), self.head_end)

    @property
    def stale(self) -> list[range]:
        """Positions by block that were encoded behind something else; no empty ones."""
        spans = (range(max(at, self.exact_end), at + len(block.ids)) for at, block in self.placed)
        return [span for span in spans if span]

    @property
    def held(self) -> bool:
        """Tell whether blocks hold exact tokens beyond `known`."""
        return self.exact_end > max(len(self.known.ids), self.head_end)

    def size(self) -> Size:
        """What a decision needs of it."""
        exact = self.exact_end - len(self.fresh) if self.held else len(self.known.ids)
        return Size(
            context=self.query_start,
            query=len(self.ids) - self.query_start,
            unread=len(self.ids) - exact,
            fresh=len(self.fresh),
            stale=tuple(len(span) for span in self.stale),
        )


def laid_out(
    model: LocalModel,
    blocks: Sequence[KVBlock],
    query_ids: Sequence[int],
    behind: Sequence[int],
    *,
    refusal: str,
    chain: Chain[Prefix] | None,
    salt: str,
) -> Layout:
    """Lay blocks behind a head and a query behind them; find what is exact as it stands.

    Args:
        refusal: Why the model cannot compose; "" when it can.

    Raises:
        BadInput: A block is of another model, or there is nothing or too much to read.
    """
    ids, placed = tuple(behind), []
    exact_end = len(ids)
    for block in blocks:
        if block.key != model.key:
            raise BadInput(
                f"A block of {len(block.ids)} tokens was made by another model, adapter or dtype "
                f"({block.key.digest[:12]!r}, not {model.key.digest[:12]!r}): make it anew."
            )
        # keys whose frequencies depend on the length of the sequence are exact in their own sequence only
        if exact_end == len(ids) and block.behind == ids and not refusal:
            exact_end += len(block.ids)
        placed.append((len(ids), block))
        ids += block.ids
    query_start = len(ids)
    ids += tuple(query_ids)
    limit = model.capabilities.context_tokens
    if not 0 < len(ids) <= limit:
        raise BadInput(f"{len(ids)} tokens are none, or more than the {limit} that this model reads.")
    known = Prefix((), ())
    if chain is not None:
        known = _known(chain, ids, chain_root(model.key, salt=salt), whole=bool(refusal))
    return Layout(
        ids=ids,
        head_end=len(behind),
        query_start=query_start,
        known=known,
        placed=tuple(placed),
        exact_end=max(exact_end, len(known.ids)),
    )


def _known(chain: Chain[Prefix], ids: tuple[int, ...], root: bytes, *, whole: bool) -> Prefix:
    """The longest prefix that was read before, without the last id: something must be left to read.

    Args:
        whole: Only a prefix that need not be cut will do.
    """
    match = chain.longest(ids[:-1], root=root)
    if match is None or (whole and match.tokens < len(match.kept.ids)):
        return Prefix((), ())
    return _cropped(match.kept, match.tokens)


def _cropped(prefix: Prefix, count: int) -> Prefix:
    if count == len(prefix.ids):
        return prefix
    layers = tuple(LayerKV(layer.keys[:, :count], layer.values[:, :count]) for layer in prefix.layers)
    return Prefix(prefix.ids[:count], layers)
