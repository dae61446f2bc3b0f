"""What of the site is made from the code while it is built; MkDocs calls the functions `on_...`.

Files of the repository that pages show or link to outside docs/ (pictures of results, notes, the changelog) become part
of the site, at the same place below its root. The reference is made from the models, the commands and the docstrings.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel, TypeAdapter

import se_nas
from se_nas.cli.main import app
from se_nas.runs.run_file import model_with_strategies
from se_nas.space import templates
from se_nas.space.attention import ATTENTION
from se_nas.space.blocks import BLOCKS, shape
from se_nas.space.yaml.model import SpaceModel
from se_nas.training.recipe import Recipe
from se_nas.training.recipe_files import DEFAULT, default_recipe

ROOT = Path(__file__).resolve().parents[1]
HEADINGS = "Args|Attributes|Raises|Returns"
OF_RECIPES = (
    f"No key must be given. What is left out is as in the recipe `base`, for which the table shows `{DEFAULT}`; only "
    "`search.stand_alone` has 5 `epochs` and an `evaluate_every` of 1. Where there is a `source` and no `base`, the "
    "recipe stands alone: then the defaults of its column hold, and what has none must be given."
)
TAKEN_IN = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "runs/NOTES.md")

#: The public names of the package, by heading.
PYTHON = {
    "Runs": [
        *("run", "FinishedRun", "decode_run", "RunAnswer", "search_architectures", "train", "evaluate"),
        *("export_trained", "render_report"),
    ],
    "Spaces and architectures": [
        *("load_space", "parse_space", "dump_space", "SearchSpace", "StageTemplate", "OpTemplate", "SETemplate"),
        *("StemTemplate", "HeadTemplate", "Architecture", "ArchitectureFile", "load_architecture", "save_architecture"),
        *("space_of", "SpaceOfModel"),
    ],
    "Costs and budgets": [
        *("Budget", "parse_budgets", "network_counts", "count_tables", "latency_table", "decode", "certify"),
    ],
    "Networks": ["NetworkSpec", "Network", "build", "SuperNet"],
    "Registries and errors": [
        *("BLOCKS", "ATTENTION", "STRATEGIES", "SAMPLERS", "DATASETS", "RECIPES", "FORMS", "SeNasError"),
    ],
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what stands outside docs/ and what is generated."""
    for name in TAKEN_IN:
        files.append(File.generated(config, name, content=(ROOT / name).read_text()))
    for picture in sorted((ROOT / "runs" / "results").rglob("*.png")):
        files.append(File.generated(config, picture.relative_to(ROOT).as_posix(), abs_src_path=str(picture)))
    for name, text in reference().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links that leave docs/, or lead into it from outside, lead to the same file in the site."""
    uri = page.file.src_uri
    if uri in TAKEN_IN:
        return re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
    up = uri.count("/")
    outside = "|".join(map(re.escape, (*TAKEN_IN, "runs/results/")))
    return re.sub(rf"\]\({re.escape('../' * (up + 1))}({outside})", rf"]({'../' * up}\1", markdown)


def reference() -> dict[str, str]:
    """The generated pages of the reference by name."""
    return {
        "commands": commands_page(),
        "run-file": model_page(
            "Run file", model_with_strategies(), "What `se-nas search RUN.yaml` and `se-nas launch RUN.yaml` read."
        ),
        "space-file": model_page(
            "Space file",
            SpaceModel,
            "What a search space file may say. [Write a search space](../how-to/write-a-space.md) explains it by "
            "example.",
        )
        + "\n"
        + kinds(),
        "recipe-file": model_page(
            "Recipe",
            Recipe,
            "What a recipe for `se-nas retrain --recipe NAME`, a run file's `retrain:` and `search.stand_alone:` hold. "
            "The shipped ones are in `se_nas/training/recipes/`; `--set KEY=VALUE` replaces a value.",
        ),
        "python": python_page(),
    }


# commands


def commands_page() -> str:
    """Every command with its options, as `--help` has them."""
    page = ["# Commands", "`se-nas COMMAND --help` prints the same in a terminal."]
    for words, command in leaf_commands(typer.main.get_command(app), []):
        context = command.make_context(words[-1], [], resilient_parsing=True)
        command.fill_lists()
        page += [f"## se-nas {' '.join(words)}", paragraphs(command.help or "")]
        rows = [
            record
            for parameter in command.params
            if "--help" not in parameter.opts and (record := parameter.get_help_record(context))
        ]
        page.append(table(["argument or option", "meaning"], [[f"`{name}`", text] for name, text in rows]))
    return "\n\n".join(page) + "\n"


def leaf_commands(command: Any, words: list[str]) -> Iterator[tuple[list[str], Any]]:
    """The commands that do something, with the words that call them."""
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, inner in command.commands.items():
        if not inner.hidden:
            yield from leaf_commands(inner, [*words, name])


# models


def model_page(title: str, model: type[BaseModel], intro: str) -> str:
    """Every key that a file read by this model may have, the file's own first and then those of the parts in it."""
    must = "" if model is Recipe else " A key without a default must be given."
    page = [f"# {title}", intro, f"An unknown key is an error.{must}"]
    whole = model.model_json_schema()
    parts = {model.__name__: whole, **whole.get("$defs", {})}
    headings = headings_in(model.__name__, parts)
    for name, heading in headings.items():
        page += [f"## {heading} {{ #{name.lower()} }}", *keys_of(name, parts[name], headings)]
    return "\n\n".join(page) + "\n"


def keys_of(name: str, part: dict[str, Any], headings: dict[str, str]) -> tuple[str, str]:
    """A part's own text, and a table of its keys."""
    text, meanings = described(name, part.get("description", ""))
    of_base = default_recipe().model_dump(mode="json") if name == Recipe.__name__ else None
    rows = [
        [
            f"`{key}`",
            type_text(value, headings),
            "" if key in part.get("required", ()) else default_text(value),
            *([] if of_base is None else [f"`{in_yaml(of_base[key])}`"]),
            meanings.get(key, ""),
        ]
        for key, value in part["properties"].items()
    ]
    if of_base is None:
        return text, table(["key", "value", "default", "meaning"], rows)
    base = ["`base`", "text", "", f"`{DEFAULT}`", "the shipped recipe whose values hold for the keys that are left out"]
    heads = ["key", "value", "with a `source` of its own", f"in `{DEFAULT}`", "meaning"]
    return f"{text}\n\n{OF_RECIPES}", table(heads, [base, *rows])


def kinds() -> str:
    """The kinds of block and of attention that there are, and the keys that only some kinds of block have."""
    form = TypeAdapter(shape.BlockForm).json_schema()
    form["properties"].pop("own")
    blocks = [[f"`{kind.name}`", kind.title, keys(kind.options)] for kind in BLOCKS.values()]
    attention = [[f"`{kind.name}`", kind.title, "yes" if kind.has_ratio else "no"] for kind in ATTENTION.values()]
    page = ["## Kinds of block", table(["kind", "block", "keys"], blocks), "These keys belong to some kinds alone:"]
    page.append(keys_of("BlockForm", form, {})[1])
    page += ["## Kinds of attention", "A number alone, as an option, is SE with that ratio."]
    return "\n\n".join([*page, table(["option", "attention", "has a ratio"], attention)]) + "\n"


def keys(options: frozenset[str]) -> str:
    """Keys, each as code, those that most kinds have first."""
    return (
        ", ".join(f"`{key}`" for key in sorted(options, key=lambda key: (key not in ("kernel", "se"), key))) or "none"
    )


def headings_in(file: str, parts: dict[str, Any]) -> dict[str, str]:
    """The parts of a file in the order in which a reader meets them, each headed by where it stands."""
    paths = {file: ""}
    headings = {file: "The file"}
    waiting = [file]
    while waiting:
        part = waiting.pop(0)
        for key, value in parts[part]["properties"].items():
            for inner in re.findall(r"#/\$defs/(\w+)", json.dumps(value)):
                if inner not in paths and "properties" in parts[inner]:
                    paths[inner] = f"{paths[part]}.{key}".lstrip(".")
                    strategy = parts[inner]["properties"].get("strategy")
                    headings[inner] = f"`{paths[inner]}`" + (
                        f" with strategy {strategy['default']}" if strategy else ""
                    )
                    waiting.append(inner)
    return headings


def described(name: str, description: str) -> tuple[str, dict[str, str]]:
    """A part's own text, and what its model and those it inherits from say of each key."""
    owner = {**vars(templates), **vars(shape), **subclasses(BaseModel)}.get(name)
    docs = (
        [own_doc(base) for base in reversed(owner.__mro__) if base.__module__ != BaseModel.__module__] if owner else []
    )
    meanings: dict[str, str] = {}
    for doc in (*docs, description):
        for names, meaning in sections(doc).get("Attributes", []):
            meanings |= dict.fromkeys(re.split(r",\s*", names), meaning)
    return paragraphs(re.split(r"\n\s*Attributes:", description)[0]), meanings


def subclasses(base: type[Any]) -> dict[str, type[Any]]:
    """All classes below one, by name."""
    below: list[type[Any]] = base.__subclasses__()
    return {each.__name__: each for each in below} | {k: v for each in below for k, v in subclasses(each).items()}


def type_text(schema: dict[str, Any], names: dict[str, str]) -> str:
    """What a value must be, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{names[name]}](#{name.lower()})"
    if inner := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(type_text(each, names) for each in inner)
    if "enum" in schema:
        return ", ".join(f"`{in_yaml(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return "list of " + " and ".join(type_text(each, names) for each in schema["prefixItems"])
        return f"list of {type_text(schema.get('items', {}), names)}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return "mapping" + (f" to {type_text(values, names)}" if isinstance(values, dict) else "")
    words = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "true or false",
        "null": "null",
    }
    limits = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return ", ".join(
        [words[kind] if kind else "any value", *(f"{limits[key]} {schema[key]:,}" for key in limits if key in schema)]
    )


def default_text(schema: dict[str, Any]) -> str:
    """A default as YAML has it; of a part with keys of its own, its own table says it."""
    if "default" not in schema:  # it is made
        return "its defaults"
    value = schema["default"]
    if isinstance(value, dict) and value and "additionalProperties" not in schema:
        return "its defaults"
    return f"`{in_yaml(value)}`"


def in_yaml(value: Any) -> str:
    """A value in YAML's flow style."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf).removesuffix("...\n").strip()


# docstrings


def python_page() -> str:
    """The public names with their signatures and docstrings; of a registry, the names in it."""
    page = ["# Python", "What `import se_nas` gives. Each name is imported when it is first asked for."]
    for heading, names in PYTHON.items():
        page.append(f"## {heading}")
        for name in names:
            value = getattr(se_nas, name)
            page.append(f"### {name}")
            if isinstance(value, Mapping):
                page.append("A registry, with entries by name: " + ", ".join(f"`{entry}`" for entry in value) + ".")
                continue
            if not (inspect.isclass(value) and issubclass(value, Exception)):
                page.append(f"```text\n{signature(name, value)}\n```")
            page.append(doc_text(own_doc(value)))
            if inspect.isclass(value):
                page += methods_of(value)
    return "\n\n".join(page) + "\n"


def methods_of(owner: type) -> list[str]:
    """What a class does, one entry a method or property."""
    page = []
    for name, member in vars(owner).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
            continue
        shown = name if isinstance(member, property) else signature(name, function)
        page += [f"```text\n{owner.__name__}.{shown}\n```", doc_text(own_doc(function))]
    return page


def signature(name: str, value: Callable[..., Any]) -> str:
    """How it is called: one line, or a line for each parameter where that is long."""
    found = inspect.signature(value)
    parameters = [parameter for parameter in found.parameters.values() if parameter.name != "self"]
    line = f"{name}{found.replace(parameters=parameters)}"
    if len(line) > 90:
        answer = "" if found.return_annotation is inspect.Signature.empty else f" -> {found.return_annotation}"
        line = f"{name}(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + f"){answer}"
    return line.replace("'", "")


def own_doc(value: Any) -> str:
    """The docstring of its own, without its indentation."""
    return inspect.cleandoc(value.__doc__ or "")


def sections(doc: str) -> dict[str, list[tuple[str, str]]]:
    """The entries of a docstring's sections as (name, meaning); what is returned has no name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for heading, body in re.findall(rf"^({HEADINGS}):\n((?:(?: {{4}}.*)?(?:\n|\Z))+)", doc, re.M):
        entries = re.findall(r"^ {4}(\S[^:\n]*): (.*(?:\n {8}.*)*)", body, re.M)
        if heading == "Returns":
            entries = [("", body)]
        found[heading] = [(name, one_line(meaning)) for name, meaning in entries]
    return found


def doc_text(doc: str) -> str:
    """A docstring as Markdown."""
    text = [paragraphs(re.split(rf"^(?:{HEADINGS}):\n", doc, flags=re.M)[0])]
    for heading, entries in sections(doc).items():
        lines = (f"- {code(name)}: {meaning}" if name else f"- {meaning}" for name, meaning in entries)
        text += [f"{heading}:", "\n".join(lines)]
    return "\n\n".join(text)


def code(names: str) -> str:
    """Names between commas, each as code."""
    return ", ".join(f"`{name}`" for name in names.split(", "))


def paragraphs(text: str) -> str:
    """A text with its paragraphs a line each."""
    return "\n\n".join(map(one_line, re.split(r"\n\s*\n", text.strip())))


def one_line(text: str) -> str:
    """A text in one line."""
    return " ".join(text.split())


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
