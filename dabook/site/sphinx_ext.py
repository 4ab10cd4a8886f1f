"""What the book needs beyond MyST: inline SVG figures, and one page per record so that a number
leads to its run.

`svg-figure` puts a drawing into the page itself (not into an <img>), where it follows the page's
colours in light and dark. `record-index` lists the records there are, `certificate-index` the
certificates. Every record gets a page `records/<experiment>/<hash>.html` beside a copy of its JSON;
tables link there as `../records/<experiment>/<hash>.html`, since every page of the book lies one
folder deep.
"""

import json
import re
import shutil
from collections.abc import Iterator
from html import escape
from pathlib import Path
from statistics import fmean

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from dabook.runs import records
from dabook.show.sentences import UNRECORDED
from dabook.site import languages
from dalib import certificates, paths, provenance
from dalib.evaluation.segmentation import PARTS, Areas

NO_RUN = re.compile(
    r"\b(\d+) of \1 runs are not recorded yet"
)  # under a table of which there is none
NO_CERTIFICATE = (
    "There is no certificate yet: no code has been moved since the records of this study."
)
TARGET = "../records/{experiment}/{stem}.html"


def record_files() -> Iterator[tuple[str, Path]]:
    """Committed records first, then this machine's own (profiles smoke and quick), as (experiment,
    file), sorted."""
    for folder in (paths.records(), paths.local_records()):
        for path in sorted(folder.glob("*/*.json")):
            yield path.parent.name, path
    for folder in (paths.robustness(), paths.local_robustness()):
        for path in sorted(folder.glob("*.json")):
            yield folder.name, path
    for folder in (paths.root() / "data" / "bugs", paths.runs() / "bugs" / "records"):
        for path in sorted(folder.glob("*.json")):
            yield "bugs", path


def table(rows: list[tuple[str, ...]], head: tuple[str, ...] = ()) -> str:
    """An HTML table of already escaped cells; the first cell of a row is its heading."""
    thead = "<thead><tr>" + "".join(f"<th>{h}</th>" for h in head) + "</tr></thead>" if head else ""
    body = "".join(
        f"<tr><th>{r[0]}</th>" + "".join(f"<td>{c}</td>" for c in r[1:]) + "</tr>" for r in rows
    )
    kind = "record" if head else "record facts"
    return (
        '<div class="table-scroll" tabindex="0"><table class="dataframe '
        f'{kind}">{thead}<tbody>{body}</tbody></table></div>'
    )


def plain(value: object) -> str:
    """A value of a record as escaped text."""
    return escape(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def flat(tree: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """A nested config as (dotted name, value) pairs."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def scores(groups: dict[str, dict]) -> str:
    """Means over the images of each domain or data set, one row each; what is no list of numbers is
    left out."""
    kept = {}
    for name, values in groups.items():
        lists = {
            k: v
            for k, v in values.items()
            if isinstance(v, list) and not any(isinstance(x, str) for x in v)
        }
        kept[name] = {
            k: ([x for x in v if x is not None and x == x], len(v)) for k, v in lists.items()
        }
    columns = list(dict.fromkeys(k for lists in kept.values() for k in lists))
    rows = []
    for name, lists in kept.items():
        means = [f"{fmean(lists[c][0]):.4f}" if c in lists and lists[c][0] else "" for c in columns]
        rows.append(
            (escape(name), *means, str(max((count for _, count in lists.values()), default=0)))
        )
    return table(rows, ("", *map(escape, columns), "images")) if rows else ""


def class_scores(domains: dict[str, dict]) -> str:
    """mIoU of each domain and the IoU of its classes in percent, of a run that learned classes;
    nothing for any other. A class that a domain does not have has no IoU there."""
    if not all(part in scores for scores in domains.values() for part in PARTS):
        return ""
    found = {name: Areas.from_dict(scores) for name, scores in domains.items()}
    names = list(dict.fromkeys(name for areas in found.values() for name in areas.classes))
    rows = []
    for domain, areas in found.items():
        values = [areas.miou, *(areas.iou.get(name) for name in names)]
        cells = ("" if v is None else f"{100 * v:.2f}" for v in values)
        rows.append((escape(domain), *cells, str(len(areas))))
    return table(rows, ("", "mIoU", *map(escape, names), "images")) if rows else ""


def pool(domains: dict[str, dict[str, list]]) -> dict[str, list]:
    """The lists of several domains as one, metric by metric."""
    metrics = dict.fromkeys(metric for lists in domains.values() for metric in lists)
    return {
        metric: [x for lists in domains.values() for x in lists.get(metric, ())]
        for metric in metrics
    }


def record_body(record: dict, stem: str) -> str:
    """The page of one record: where it comes from, what it scored, its whole configuration."""
    record = records.split_hash(record)
    stale = {
        f"{part}_hash": not certificates.unchanged(part, record.get(f"{part}_hash", ""))
        for part in provenance.ROOTS
    }
    shown = {
        k: v
        for k, v in record.items()
        if k not in {"config", "images", "real", "scores", "versions", "summary"}
    }
    facts = [
        (escape(k), plain(v) + ' <span class="stale">stale</span>' * stale.get(k, False))
        for k, v in shown.items()
    ]
    settings = [(escape(k), plain(v)) for k, v in flat(record.get("config", {}))]
    versions = ", ".join(
        f"{escape(k)} {escape(str(v))}" for k, v in (record.get("versions") or {}).items()
    )
    parts = [
        f"<h1>{escape(str(record.get('label') or record.get('row') or stem))}, seed "
        f"{escape(str(record.get('seed')))}</h1>",
        f"<p>One run of the experiment <code>{escape(str(record.get('experiment')))}</code>. "
        "The numbers of every table come from files like this one: <a "
        f'href="{escape(stem)}.json">{escape(stem)}.json</a> '
        "holds the score of each image. What its lines mean, and all other records: "
        '<a href="../../book/provenance.html">How to read a record</a>.</p>',
        table(facts),
    ]
    pooled = {
        condition: pool(domains) for condition, domains in (record.get("scores") or {}).items()
    }
    groups = {
        "Scores per domain": record.get("images"),
        "Scores per real data set": record.get("real"),
        "Scores per corruption and strength": pooled,
    }
    for title, group in groups.items():
        if body := scores(group or {}):
            parts.append(f"<h2>{title}</h2>" + body)
    if body := class_scores(record.get("images") or {}):
        parts.append("<h2>IoU per domain and class, %</h2>" + body)
    if settings:
        parts.append("<h2>Configuration</h2>" + table(settings))
    if versions:
        parts.append(f'<p class="provenance">Versions: {versions}.</p>')
    return "".join(parts)


def collect_pages(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    """Sphinx event: one themed page per record, beside the first edition."""
    if not languages.is_first(app):
        return
    for experiment, path in record_files():
        record = json.loads(path.read_text(encoding="utf8"))
        title = f"{record.get('row', path.stem)}, seed {record.get('seed')}"
        yield (
            f"records/{experiment}/{path.stem}",
            {"title": title, "body": record_body(record, path.stem), "display_toc": False},
            "page.html",
        )


def copy_records(app: Sphinx, exception: Exception | None) -> None:
    """Sphinx event: the JSON itself, beside its page; certificates in a folder of their own."""
    if exception is None and app.builder.format == "html" and languages.is_first(app):
        if paths.certificates().is_dir():
            known = Path(app.outdir) / "certificates"
            shutil.copytree(paths.certificates(), known, dirs_exist_ok=True)
        for experiment, path in record_files():
            target = Path(app.outdir) / "records" / experiment / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


class RecordIndex(Directive):
    """`record-index`: a table of every record, each linked to its page."""

    def run(self) -> list[nodes.Node]:
        rows = []
        for experiment, path in record_files():
            record = json.loads(path.read_text(encoding="utf8"))
            link = TARGET.format(experiment=escape(experiment), stem=escape(path.stem))
            name = f"{record.get('row')}, seed {record.get('seed')}"
            cells = (
                experiment,
                record.get("profile"),
                record.get("device"),
                str(record.get("created", ""))[:10],
            )
            rows.append((f'<a href="{link}">{escape(name)}</a>', *map(plain, cells)))
        rows.sort(key=lambda cells: (cells[2], cells[1], re.sub("<[^>]*>", "", cells[0])))
        head = ("run", "experiment", "profile", "device", "made")
        text = (
            f'<div class="record-index">{table(rows, head)}</div>'  # which is not printed
            if rows
            else f"<p>{UNRECORDED}</p>"
        )
        return [nodes.raw(text=text, format="html")]


class CertificateIndex(Directive):
    """`certificate-index`: a table of every certificate, each linked to its file."""

    def run(self) -> list[nodes.Node]:
        rows = []
        for found in reversed(certificates.read()):
            name = f"{found['from']['commit']}-{found['to']['commit']}.json"
            link = f'<a href="../certificates/{escape(name)}">{escape(found["created"][:10])}</a>'
            commits = f"{found['from']['commit']} and {found['to']['commit']}"
            compared = sum(found["compared"][part] for part in found["equal"])
            refused = (
                "; ".join(f"{part}: {what}" for part, what in found["differences"].items())
                or "nothing"
            )
            cells = (
                commits,
                len(found["rows"]),
                len(found["scored"]),
                len(found["bugs"]),
                compared,
            )
            rows.append(
                (link, *map(plain, cells), plain(", ".join(found["equal"])), plain(refused))
            )
        head = (
            "made",
            "commits",
            "rows",
            "scorings",
            "bugs",
            "numbers and digests",
            "equal in",
            "not equal",
        )
        text = table(rows, head) if rows else f"<p>{NO_CERTIFICATE}</p>"
        return [nodes.raw(text=text, format="html")]


class SvgFigure(SphinxDirective):
    """`svg-figure file.svg [more.svg]`: drawings inlined into a numbered figure; the content is the
    caption."""

    required_arguments, optional_arguments = 1, 1
    has_content = True
    option_spec = {"name": directives.unchanged, "class": directives.class_option}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        drawings = []
        for argument in self.arguments:
            relative, absolute = self.env.relfn2path(argument)
            self.env.note_dependency(relative)
            drawings.append(Path(absolute).read_text(encoding="utf8"))
        figure = nodes.figure(
            "",
            nodes.raw(text="".join(drawings), format="html"),
            classes=["svg-figure", *self.options.get("class", [])],
        )
        self.set_source_info(figure)
        holder = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, holder)
        if holder.children:
            first = holder[0]
            caption = nodes.caption(first.rawsource, "", *first.children)
            caption.source, caption.line = first.source, first.line  # so that it is translated
            figure += caption
        self.add_name(figure)
        return [figure]


def plain_bars(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Autodoc event: |x| in a docstring is an absolute value here, not a substitution."""
    for i, line in enumerate(lines):
        parts = line.split("`")  # odd parts are code
        parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]
        lines[i] = "`".join(parts)


def plain_defaults(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str, returns: str
) -> tuple:
    """Autodoc event: a default with a starred part, which Sphinx cannot parse, is shown as
    (...)."""
    return re.sub(r"= \(\*[^()]*\)", "= (...)", signature or "") or signature, returns


def no_thebe(
    app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None
) -> None:
    """Sphinx event: leaves out the live-code scripts, which Jupyter Book adds (twice) though
    nothing here uses them."""
    scripts = context["script_files"]
    context["script_files"] = [
        s for s in scripts if "thebe" not in f"{s.filename} {s.attributes}".lower()
    ]


def no_contents_beside(
    app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None
) -> None:
    """Sphinx event: pages of source code and of records, hundreds of them, lead back to where one
    comes from, and have no table of contents: it takes longer to make than all else on them."""
    if page.startswith(("_modules/", "records/")):
        context["sidebars"] = []


def dress_numbers(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Sphinx event: glued numbers get a true minus sign where Python writes a hyphen, and a dash
    where there is no number yet."""
    for node in doctree.findall(
        lambda n: isinstance(n, nodes.inline) and "pasted-text" in n["classes"]
    ):
        text = node.astext()
        if text.lstrip("+-") == "nan":
            node.children = [nodes.Text("\N{EN DASH}")]
        elif text[:1] == "-" and text[1:2].isdigit():
            node.children = [nodes.Text("\N{MINUS SIGN}" + text[1:])]


def say_once(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Sphinx event: a page says once that runs are not yet recorded, however many tables and sentences
    it quotes that say so. In a list of questions each keeps a short word; a paragraph that is left
    empty goes."""
    said = {_page(n) for n in doctree.findall(nodes.raw) if NO_RUN.search(n.astext())}
    for node in list(doctree.findall(nodes.inline)):
        text = node.astext()
        if UNRECORDED not in text or text.replace(UNRECORDED, "").strip():
            continue
        if "pasted-text" not in node["classes"]:
            continue
        parent, here = node.parent, _page(node)
        if here not in said:
            node.children = [nodes.Text(UNRECORDED)]
        elif isinstance(parent.parent, nodes.definition):
            node.children = [nodes.Text("Not yet recorded.")]
        else:
            parent.remove(node)
            if not parent.astext().strip() and isinstance(parent, nodes.paragraph):
                parent.parent.remove(parent)
        said.add(here)


def _page(node: nodes.Node) -> int:
    """Which page a node is on, also where all pages are one."""
    while node.parent is not None and not isinstance(node, addnodes.start_of_file):
        node = node.parent
    return id(node)


def setup(app: Sphinx) -> dict:
    app.add_directive("record-index", RecordIndex)
    app.add_directive("certificate-index", CertificateIndex)
    app.add_directive("svg-figure", SvgFigure)
    app.connect("html-collect-pages", collect_pages)
    app.connect("doctree-resolved", dress_numbers)
    app.connect("doctree-resolved", say_once)
    app.connect("html-page-context", no_contents_beside, priority=100)
    app.connect("html-page-context", no_thebe, priority=900)
    app.connect("build-finished", copy_records)
    app.connect("autodoc-process-signature", plain_defaults)
    app.connect("autodoc-process-docstring", plain_bars, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
