"""The network: a language model and a triple classifier over a shared word table and shared recurrent cells.

A "BiLSTM" is bidirectional only for the triple classifier, which reads a whole triple. A model that predicts the next word must
not see it, so the language model always uses the forward cells alone. Its perplexity is that of a left-to-right model, and the
end of a line is predicted like any word. The backward cells learn from text only with ``language.backward``, which adds the
loss of predicting the previous word (as in Peters et al. 2018). It is off by default and not part of the perplexity. The
original computes the backward outputs for text and does not use them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from blink.errors import SettingsError, ShapeError
from blink.kglm.lm.softmax import sampled_loss, token_losses
from blink.kglm.lm.vocabulary import PAD
from blink.kglm.settings import Cells, Classifier, Language
from blink.runs.fields import Positive, Section
from blink.runs.seeds import seed_for

State = tuple[tuple[Tensor, Tensor], ...]
"""Hidden state and cell state of each layer after the last word, *shape* (1, batch, width) each."""

ENTITY_SCALE = 0.5
"""Standard deviation of the values of a new entity embedding; products of three values are then about 1/8."""


class Network(Section):
    """Configuration of a network; a task that is None has no layers.

    Attributes:
        vocabulary: number of ids.
        width: dimension of word vectors.
        learn_words: whether the word table is trained.
        scale: standard deviation of the values of random word vectors.
        entities, relations: rows of the entity and relation tables; 0 without tables.
    """

    vocabulary: int
    width: Positive
    cells: Cells
    language: Language | None = None
    classifier: Classifier | None = None
    learn_words: bool = True
    scale: float = 0.3
    entities: int = 0
    relations: int = 0


class TripleBatch(NamedTuple):
    """A batch of triples for the classifier.

    Attributes:
        ids: word ids. *Shape:* (batch, time).
        lengths: number of words of each triple. *Shape:* (batch,).
        head, relation, tail: rows of the entity and relation tables; None without tables. *Shape:* (batch,).
    """

    ids: Tensor
    lengths: Tensor
    head: Tensor | None = None
    relation: Tensor | None = None
    tail: Tensor | None = None


class Stack(nn.Module):
    """LSTM layers (Hochreiter & Schmidhuber 1997) of one direction, with dropout after each layer.

    Args:
        width: dimension of the input vectors.
        cells: widths of the layers, and dropout.
    """

    def __init__(self, width: int, cells: Cells) -> None:
        super().__init__()
        widths = (width, *cells.layers)
        self.layers = nn.ModuleList(
            nn.LSTM(below, above, batch_first=True) for below, above in zip(widths[:-1], cells.layers, strict=True)
        )
        self.dropout = nn.Dropout(1 - cells.keep)
        for layer in self.layers:
            _init_cells(layer)

    def forward(self, vectors: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Outputs at all positions, and the state after the last position.

        Args:
            vectors: *Shape:* (batch, time, width).
            state: state of an earlier call; None starts at zero.

        Returns:
            outputs after dropout, *shape* (batch, time, last layer), and the state of each layer.
        """
        states = []
        for number, layer in enumerate(self.layers):
            vectors, after = layer(vectors, None if state is None else state[number])
            vectors = self.dropout(vectors)
            states.append(after)
        return vectors, tuple(states)

    def last_cells(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Cell state of the last layer after the last word of each text, without padding.

        Args:
            vectors: *Shape:* (batch, time, width).
            lengths: *Shape:* (batch,), at least 1, on the CPU.

        Returns:
            *Shape:* (batch, last layer).
        """
        packed: PackedSequence = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
        for layer in self.layers:
            packed, (_, cells) = layer(packed)
            packed = packed._replace(data=self.dropout(packed.data))
        return cells[0]


class Encoder(nn.Module):
    """The word table and the cells, which both tasks share.

    Args:
        network: its configuration.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.words = nn.Embedding(network.vocabulary, network.width, padding_idx=PAD)
        nn.init.normal_(self.words.weight, std=network.scale)
        with torch.no_grad():
            self.words.weight[PAD] = 0
        self.words.weight.requires_grad_(network.learn_words)
        self.forwards = Stack(network.width, network.cells)
        self.backwards = Stack(network.width, network.cells) if network.cells.backward else None

    def read(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Encode texts left to right.

        Args:
            ids: word ids. *Shape:* (batch, time).
            state: state of an earlier call; None starts at zero.

        Returns:
            hidden states, *shape* (batch, time, width), and the final state.
        """
        outputs: tuple[Tensor, State] = self.forwards(self.words(ids), state)
        return outputs

    def read_back(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Encode texts right to left; the first position is the last word. *Shape:* (batch, time, width)."""
        assert self.backwards is not None
        outputs: Tensor = self.backwards(self.words(reversed_ids(ids, lengths)))[0]
        return outputs

    def summary(self, ids: Tensor, lengths: Tensor, *, reach_words: bool = True) -> Tensor:
        """Encode whole texts as their last cell state, concatenated over directions.

        Args:
            ids: word ids. *Shape:* (batch, time).
            lengths: number of words of each text. *Shape:* (batch,).
            reach_words: whether gradients reach the word table.

        Returns:
            *Shape:* (batch, width of the last layer times directions).
        """
        stacks = [(self.forwards, ids)]
        if self.backwards is not None:
            stacks.append((self.backwards, reversed_ids(ids, lengths)))
        lengths = lengths.cpu()
        inputs = [(stack, self.words(words)) for stack, words in stacks]
        return torch.cat([stack.last_cells(v if reach_words else v.detach(), lengths) for stack, v in inputs], dim=1)


class LanguageHead(nn.Module):
    """Predicts words from hidden states.

    Args:
        network: the network's configuration.
        options: the task's configuration.
    """

    def __init__(self, network: Network, options: Language) -> None:
        super().__init__()
        width = network.cells.layers[-1]
        self.bias = nn.Parameter(torch.zeros(network.vocabulary))
        self.weight: nn.Parameter | None = None
        self.onto: nn.Linear | None = None
        if not options.tied:
            self.weight = nn.Parameter(torch.empty(network.vocabulary, width))
            nn.init.uniform_(self.weight, -(width**-0.5), width**-0.5)
        elif width != network.width:
            self.onto = nn.Linear(width, network.width, bias=False)

    def forward(self, outputs: Tensor, words: nn.Embedding) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden vectors, output embeddings and biases, the inputs of the losses in `blink.kglm.lm.softmax`."""
        hidden = outputs if self.onto is None else self.onto(outputs)
        return hidden, words.weight if self.weight is None else self.weight, self.bias


class ClassifierHead(nn.Module):
    """Hidden layers with ReLU, dropout after the last, and one logit.

    Args:
        width: dimension of the features.
        options: the task's configuration.
    """

    def __init__(self, width: int, options: Classifier) -> None:
        super().__init__()
        widths = (width, *options.hidden, 1)
        layers = [nn.Linear(below, above) for below, above in itertools.pairwise(widths)]
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(1 - options.keep)
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of triples being true. *Shape:* (batch, width) to (batch,)."""
        *hidden, last = self.layers
        for layer in hidden:
            features = torch.relu(layer(features))
        logits: Tensor = last(self.dropout(features))
        return logits.squeeze(1)

    def penalty(self) -> Tensor:
        """Half the sum of squared weights."""
        return 0.5 * torch.stack([value.square().sum() for value in self.parameters() if value.dim() == 2]).sum()


class EntityTable(nn.Module):
    """Embeddings of entities and relations. The classifier gets ``head * relation * tail`` as features (as in DistMult).

    An entity that is not in the training triples has no row and a zero vector. `Classifier.entity_keep` sets vectors to zero in
    training too, so that the classifier also learns to use the words alone.

    Args:
        network: the network's configuration.
        options: the task's configuration.
    """

    def __init__(self, network: Network, options: Classifier) -> None:
        super().__init__()
        self.entities = nn.Embedding(network.entities, options.entity_width)
        self.relations = nn.Embedding(network.relations, options.entity_width)
        self.onto_words = nn.Linear(options.entity_width, network.width, bias=False)
        self.keep = options.entity_keep
        for table in (self.entities, self.relations):
            nn.init.normal_(table.weight, std=ENTITY_SCALE)

    def forward(self, batch: TripleBatch) -> Tensor:
        """Features of triples. *Shape:* (batch, width)."""
        return self._entity_vectors(batch.head) * self._rows(self.relations, batch.relation) * self._entity_vectors(batch.tail)

    def _entity_vectors(self, rows: Tensor | None) -> Tensor:
        vectors = self._rows(self.entities, rows)
        if not self.training or self.keep == 1:
            return vectors
        return vectors * (torch.rand(len(vectors), 1, device=vectors.device) < self.keep)

    @staticmethod
    def _rows(table: nn.Embedding, rows: Tensor | None) -> Tensor:
        if rows is None:
            raise ShapeError(
                "a model with entity embeddings needs their rows in the batch; give head, relation and tail in TripleBatch"
            )
        return torch.where((rows >= 0)[:, None], table(rows.clamp(min=0)), 0.0)

    def distance(self, rows: Tensor, words: Tensor) -> Tensor:
        """Mean squared distance between projected entity embeddings and the vectors of their names.

        Args:
            rows: rows of the entities. *Shape:* (n,).
            words: mean word vector of each name. *Shape:* (n, word width).
        """
        distances: Tensor = (self.onto_words(self.entities(rows)) - words).square().sum(1).mean()
        return distances


class KGLanguageModel(nn.Module):
    """A language model, a triple classifier, or both over a shared word table and shared cells.

    Each module has its own random seed, so its initial weights do not depend on which other modules exist.

    Args:
        network: its configuration.
        seed: seed of the initial weights.
    """

    def __init__(self, network: Network, seed: int = 0) -> None:
        super().__init__()
        self.network = network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(seed, "encoder"))
            self.encoder = Encoder(network)
            torch.manual_seed(seed_for(seed, "language"))
            self.language = LanguageHead(network, network.language) if network.language else None
            torch.manual_seed(seed_for(seed, "classifier"))
            options = network.classifier
            width = network.cells.layers[-1] * (1 + network.cells.backward) + (options.entity_width if options else 0)
            self.classifier = ClassifierHead(width, options) if options else None
            torch.manual_seed(seed_for(seed, "tables"))
            self.tables = EntityTable(network, options) if options and options.entity_width else None

    def language_loss(self, ids: Tensor) -> Tensor:
        """Mean loss per predicted word, in nats. Ends of lines are predicted, padding and beginnings are not.

        Args:
            ids: word ids of lines. *Shape:* (batch, time).
        """
        options, _ = self._language_task()
        loss = self._next_word_loss(self.encoder.read(ids[:, :-1])[0], ids[:, 1:], options)
        if options.backward and self.encoder.backwards is not None:
            lengths = (ids != PAD).sum(1)
            back = reversed_ids(ids, lengths)
            loss = loss + self._next_word_loss(self.encoder.read_back(ids, lengths)[:, :-1], back[:, 1:], options)
        return loss

    def _next_word_loss(self, outputs: Tensor, targets: Tensor, options: Language) -> Tensor:
        mask = targets != PAD
        hidden, weight, bias = self._predictor(outputs[mask])
        if options.softmax == "sampled" and self.training:
            return sampled_loss(hidden, targets[mask], weight, bias, options.samples)
        return nn.functional.cross_entropy(nn.functional.linear(hidden, weight, bias), targets[mask])

    def _predictor(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        projection: tuple[Tensor, Tensor, Tensor] = self._language_task()[1](outputs, self.encoder.words)
        return projection

    def _language_task(self) -> tuple[Language, LanguageHead]:
        if self.network.language is None or self.language is None:
            raise SettingsError("this model is a triple classifier without a language model; give a run of kind lm or joint")
        return self.network.language, self.language

    @torch.no_grad()
    def line_losses(self, ids: Tensor) -> Tensor:
        """Negative log-probability of each word but the first under the full softmax, in nats; 0 at padding.

        Args:
            ids: word ids of lines. *Shape:* (batch, time).

        Returns:
            *Shape:* (batch, time - 1).
        """
        targets = ids[:, 1:]
        mask = targets != PAD
        losses = torch.zeros(targets.shape, device=ids.device)
        hidden, weight, bias = self._predictor(self.encoder.read(ids[:, :-1])[0][mask])
        losses[mask] = token_losses(hidden, targets[mask], weight, bias)
        return losses

    @torch.no_grad()
    def next_logits(self, ids: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Logits of the next word, *shape* (batch, vocabulary), and the state after ``ids``."""
        outputs, state = self.encoder.read(ids, state)
        hidden, weight, bias = self._predictor(outputs[:, -1])
        return nn.functional.linear(hidden, weight, bias), state

    def logits(self, batch: TripleBatch) -> Tensor:
        """Logits of triples being true. *Shape:* (batch,)."""
        options, head = self._classifier_task()
        features = self.encoder.summary(batch.ids, batch.lengths, reach_words=options.reach_words)
        if self.tables is not None:
            features = torch.cat([features, self.tables(batch)], dim=1)
        logits: Tensor = head(features)
        return logits

    def classifier_loss(self, batch: TripleBatch, labels: Tensor) -> Tensor:
        """Mean weighted binary cross-entropy, plus the L2 penalty.

        Args:
            batch: triples.
            labels: 1 for true triples, 0 for false ones. *Shape:* (batch,), float.
        """
        options, head = self._classifier_task()
        balance = torch.tensor(options.balance, device=labels.device)
        loss = nn.functional.binary_cross_entropy_with_logits(self.logits(batch), labels, pos_weight=balance)
        return loss + options.penalty * head.penalty() if options.penalty else loss

    def _classifier_task(self) -> tuple[Classifier, ClassifierHead]:
        if self.network.classifier is None or self.classifier is None:
            raise SettingsError("this model is a language model without a triple classifier; give a run of kind joint")
        return self.network.classifier, self.classifier

    def name_vectors(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Mean word vectors of names, without `BOS`. *Shape:* (n, time) to (n, width)."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        real = (positions >= 1) & (positions < lengths.to(ids.device)[:, None])
        sums = (self.encoder.words(ids) * real[:, :, None]).sum(1)
        return sums / real.sum(1, keepdim=True).clamp(min=1)

    def groups(self) -> Iterator[tuple[str, Sequence[nn.Parameter]]]:
        """Trained parameters by module: ``words``, ``cells``, ``language``, ``classifier``, ``tables``."""
        cells = [
            p for stack in (self.encoder.forwards, self.encoder.backwards) if stack is not None for p in stack.parameters()
        ]
        groups = {"words": list(self.encoder.words.parameters()), "cells": cells}
        for name, module in (("language", self.language), ("classifier", self.classifier), ("tables", self.tables)):
            groups[name] = list(module.parameters()) if module is not None else []
        for name, parameters in groups.items():
            if trained := [p for p in parameters if p.requires_grad]:
                yield name, trained


def reversed_ids(ids: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each text, with padding still at the end. *Shape:* (batch, time) both."""
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    ends = lengths.to(ids.device)[:, None]
    return ids.gather(1, torch.where(positions < ends, ends - 1 - positions, positions))


def _init_cells(layer: nn.Module) -> None:
    """Xavier weights; zero biases, except 1 for forget gates (Jozefowicz et al. 2015)."""
    for name, value in layer.named_parameters():
        if value.dim() == 2:
            nn.init.xavier_uniform_(value)
        else:
            nn.init.zeros_(value)
            if name.startswith("bias_ih"):
                width = len(value) // 4
                with torch.no_grad():
                    value[width : 2 * width] = 1.0
