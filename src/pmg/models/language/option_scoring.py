"""Packs closed questions into one sequence, so that one pass scores all their options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pmg.domain import PmgError


@dataclass(frozen=True)
class Question:
    """A closed question behind a history, and its possible answers; each text has at least one token."""

    prompt: str  # between history and option
    options: tuple[str, ...]  # most tokenizers want a leading space


@dataclass(frozen=True)
class OptionTree:
    """Questions packed into `N` tokens: options attend to their prompt and themselves, prompts to themselves."""

    tokens: Tensor  # int64 `(N,)`; an option's last token is left out, since nothing follows it
    steps: Tensor  # int64 `(N,)`, positions counted from the end of the history
    visible: Tensor  # bool `(N, N)`, which token attends to which
    # int64 `(3, K)`: for each option token the option (counted over all questions), the position in the sequence that
    # predicts it, and the token itself
    targets: Tensor
    counts: tuple[int, ...]  # number of options of each question

    def __len__(self) -> int:
        return len(self.tokens)


def pack_options(questions: Iterable[Question], token_ids: Callable[[str], list[int]]) -> OptionTree:
    """Packs questions into one sequence; PmgError if there is none, or a prompt or an option is empty."""
    tokens: list[int] = []
    steps: list[int] = []
    counts: list[int] = []
    owners, targets = [], []
    for number, question in enumerate(questions):
        prompt, *options = (token_ids(text) for text in (question.prompt, *question.options))
        if not prompt or not options or not all(options):
            raise PmgError(
                f"a question needs a prompt and options that aren't empty, "
                f"got '{question.prompt}' {list(question.options)}"
            )
        end = len(tokens) + len(prompt) - 1
        tokens += prompt
        steps += range(len(prompt))
        owners += [(number, -1)] * len(prompt)
        for number_of_option, ids in enumerate(options, start=sum(counts)):
            sources = [end, *range(len(tokens), len(tokens) + len(ids) - 1)]
            targets += [(number_of_option, source, token) for source, token in zip(sources, ids, strict=True)]
            tokens += ids[:-1]
            steps += range(len(prompt), len(prompt) + len(ids) - 1)
            owners += [(number, number_of_option)] * (len(ids) - 1)
        counts.append(len(options))
    if not counts:
        raise PmgError("option scoring needs at least one question")
    return OptionTree(
        torch.tensor(tokens), torch.tensor(steps), _visible(owners), torch.tensor(targets).T, tuple(counts)
    )


def _visible(owners: Sequence[tuple[int, int]]) -> Tensor:
    """Bool `(N, N)` from the (question, option) of each token; option -1 is the prompt."""
    question, option = torch.tensor(owners).T
    related = (question[:, None] == question) & ((option[:, None] == option) | (option == -1))
    return related & torch.ones_like(related).tril()


@dataclass(frozen=True)
class BatchedOptionTree:
    """A batch of `B` option trees, one for each history, padded to one length."""

    tokens: Tensor  # int64 `(B, N)`
    steps: Tensor  # int64 `(B, N)`
    visible: Tensor  # bool `(B, N, N)`
    targets: Tensor  # int64 `(4, K)`: row, option, position and token of each option token of all trees

    @classmethod
    def from_trees(cls, trees: Sequence[OptionTree]) -> BatchedOptionTree:
        """Returns the padded batch: no token attends to padding, and padding predicts nothing."""
        length = max(map(len, trees))
        visible = torch.zeros(len(trees), length, length, dtype=torch.bool)
        for row, tree in enumerate(trees):
            visible[row, : len(tree), : len(tree)] = tree.visible
        tokens, steps = (
            torch.nn.utils.rnn.pad_sequence([getattr(tree, name) for tree in trees], batch_first=True)
            for name in ("tokens", "steps")
        )
        rows = torch.repeat_interleave(torch.arange(len(trees)), torch.tensor([t.targets.shape[1] for t in trees]))
        return cls(tokens, steps, visible, torch.cat([rows[None], torch.cat([t.targets for t in trees], 1)]))

    def score(self, states: Tensor, head: Callable[[Tensor], Tensor], rows_at_once: int = 1024) -> Tensor:
        """Returns the log-probability of each option, float32 `(B, most options)`; 0 where a tree has fewer.

        States are the last hidden ones `(B, N, width)`; `head` turns `(S, width)` into logits `(S, V)`, at most
        `rows_at_once` of them, since its output is large.
        """
        row, option, position, token = self.targets
        # each state once, also where several options begin at it
        flat, which = torch.unique(row * states.shape[1] + position, return_inverse=True)
        chosen = states.flatten(0, 1)[flat.to(states.device)]
        scores = torch.empty(len(which))
        for start in range(0, len(flat), rows_at_once):
            log_probs = head(chosen[start : start + rows_at_once]).float().log_softmax(-1)
            mine = (which >= start) & (which < start + rows_at_once)
            scores[mine] = log_probs[which[mine] - start, token[mine]].cpu()
        width = int(option.max()) + 1
        total = torch.zeros(len(states) * width).index_add(0, row * width + option, scores)
        return total.view(len(states), width)
