"""Builds the demo experts, scores them and describes them: `python -m experts.recipes train`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

REPORT_EVERY = 50


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experts.recipes", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/experts"), help="where to build")
    parser.add_argument("--threads", type=int, default=1, help="same threads, same weights")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("vocabulary", help="train the tokenizer anew: then train all experts too")
    train = commands.add_parser("train", help="train these, or all, into the work folder")
    train.add_argument("names", nargs="*")
    score = commands.add_parser("score", help="answer held-out examples")
    score.add_argument("model", type=Path)
    score.add_argument("--fields", nargs="*", help="by default those that the expert learns")
    score.add_argument("--count", type=int, default=200, help="examples of a field")
    score.add_argument("--show", type=int, default=0, help="so many wrong answers")
    publish = commands.add_parser(
        "publish", help="score on all fields; keep what reaches its goals"
    )
    publish.add_argument("names", nargs="*")
    publish.add_argument("--into", type=Path, default=Path("experts/demo"))
    publish.add_argument("--count", type=int, default=500, help="examples of a field")
    twin = commands.add_parser("twin", help="write a full-sized model that computes the same")
    twin.add_argument("model", type=Path)
    twin.add_argument("folder", type=Path)
    sets = commands.add_parser("sets", help="write sets: fields, routing, consensus")
    sets.add_argument("folder", type=Path)
    sets.add_argument("--count", type=int, default=700, help="prompts of each")
    arguments = parser.parse_args()
    # Must be known before torch is imported, for its pools.
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    import torch

    torch.set_num_threads(arguments.threads)
    COMMANDS[arguments.command](arguments)


def vocabulary(_arguments: argparse.Namespace) -> None:
    from experts.recipes.recipes import FIELDS
    from experts.recipes.vocabulary import VOCABULARY, save_tokenizer, train_tokenizer

    save_tokenizer(train_tokenizer(FIELDS.values()), VOCABULARY)


def train(arguments: argparse.Namespace) -> None:
    from experts.recipes.build import build_model
    from experts.recipes.recipes import RECIPES
    from experts.recipes.train import Progress

    def report(progress: Progress) -> None:
        if progress.step % REPORT_EVERY == 0:
            say(f"{name}  {progress}")

    for name in arguments.names or RECIPES:
        say(f"{name} is in {build_model(RECIPES[name], arguments.work, report)}")


def score(arguments: argparse.Namespace) -> None:
    from experts.recipes.recipes import RECIPES
    from experts.recipes.score import by_kind, score_fields

    fields = arguments.fields or RECIPES[arguments.model.name].fields
    scores, answers = score_fields(arguments.model, fields, arguments.count, arguments.threads)
    for field, part in scores.items():
        say(f"{field:12} {part:7.1%}")
    for kind, (right, count) in by_kind(answers).items():
        say(f"    {kind:28} {right} of {count}")
    for each in [each for each in answers if not each.right][: arguments.show]:
        say(f"\n{each.example.prompt}\n  not {each.text!r}\n  but {each.example.answer!r}")


def publish(arguments: argparse.Namespace) -> None:
    from experts.recipes.card import publish_model
    from experts.recipes.recipes import RECIPES

    for name in arguments.names or RECIPES:
        missed = publish_model(
            RECIPES[name],
            arguments.work / name,
            arguments.into / name,
            arguments.count,
            arguments.threads,
        )
        if missed:
            sys.exit(f"{name} stays in {arguments.work}: {'; '.join(missed)}")
        say(f"{name} is in {arguments.into}")


def twin(arguments: argparse.Namespace) -> None:
    from experts.recipes.expand import expand

    expand(arguments.model, arguments.folder)


def sets(arguments: argparse.Namespace) -> None:
    from experts.recipes.evaluation import consensus_set, known_set, routing_set, write_set

    write_set(known_set(arguments.count), arguments.folder / "fields.jsonl")
    write_set(routing_set(arguments.count), arguments.folder / "routing.jsonl")
    write_set(consensus_set(arguments.count), arguments.folder / "consensus.jsonl")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


COMMANDS = {
    "vocabulary": vocabulary,
    "train": train,
    "score": score,
    "publish": publish,
    "twin": twin,
    "sets": sets,
}

if __name__ == "__main__":
    main()
