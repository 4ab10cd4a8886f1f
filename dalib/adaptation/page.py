"""The report as one HTML page, made from the report's JSON and the contact sheet and from nothing
else: each number on it is a `<data>` element whose value stands in the JSON.

The page needs no network and no script. Whatever comes from outside (names of files, settings) is
escaped.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape, unescape
from typing import Any

from dalib.adaptation.compare import FLAT, MEASURES
from dalib.adaptation.sheet import DEPTH, DIFFERENCE, MOST, TILES, Row, css_ramp

Json = Mapping[str, Any]

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f27;--dim:#5a6372;--line:#d9dde5;--back:#fff;--card:#f5f6f9;
--good:#0b7a4b;--bad:#b3261e;--before:#8a93a3;--after:#2457c5}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaf0;--dim:#a2aab8;--line:#343a46;--back:#14161b;
--card:#1d2027;--good:#57c795;--bad:#ff8b80;--before:#8f98a8;--after:#7ea6ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1.5rem 1.25rem 4rem;background:var(--back);
color:var(--ink);font:16px/1.55 system-ui,sans-serif;overflow-wrap:break-word}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 .4rem}
h2{font-size:1.2rem;margin:2.6rem 0 .6rem;padding-top:1rem;border-top:1px solid var(--line)}
p{margin:.5rem 0;max-width:46rem}
.dim,figcaption,caption{color:var(--dim);font-size:.88rem}
.answer{background:var(--card);border-radius:.7rem;padding:1.1rem 1.25rem;margin:1.1rem 0}
.answer>p:first-child{font-size:1.3rem;line-height:1.35;font-weight:600;margin:0 0 .5rem;
max-width:none}
.warn{border-left:.25rem solid var(--bad);padding-left:.7rem}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr));gap:.7rem;
margin:1rem 0}
.facts div{background:var(--card);border-radius:.6rem;padding:.7rem .9rem}
.facts b{display:block;font-size:1.3rem;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.94rem}
caption{text-align:left;padding:.3rem 0;caption-side:bottom}
th,td{text-align:right;padding:.4rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
th:first-child,td:first-child,.text th,.text td{text-align:left;padding-left:0}
td{hyphens:none}.text th:first-child{width:15rem}
thead th{color:var(--dim);font-weight:600}
td .dim{white-space:nowrap;display:block}
.good{color:var(--good)}.bad{color:var(--bad)}
.bars{position:relative;margin:.9rem 0 .4rem}
.bar{display:grid;grid-template-columns:3.6rem 1fr;align-items:center;height:1.9rem;font-size:.9rem}
.bar>div{position:relative;height:100%}
.bar em,.bar i,.bar s,.bar u,.bar b{position:absolute;top:50%}
.bar em{top:.2rem;font-style:normal;color:var(--dim);font-size:.82rem;white-space:nowrap}
.bar i{height:.9rem;margin-top:-.45rem;opacity:.35}
.bar s{height:.22rem;margin-top:-.11rem}
.bar u{width:.8rem;height:.8rem;margin:-.4rem 0 0 -.4rem;border-radius:50%}
.bar b{margin:-.75em 0 0 .7rem;font-weight:400;font-variant-numeric:tabular-nums}
.before i,.before s,.before u{background:var(--before)}
.after i,.after s,.after u{background:var(--after)}
.marks{position:absolute;left:3.6rem;right:0;top:1.6rem;bottom:0;z-index:0;pointer-events:none}
.marks q{position:absolute;top:0;bottom:0;border-left:1px solid var(--line);quotes:none}
figure{margin:0 0 1.4rem}
.tiles{display:grid;grid-template-columns:repeat(5,1fr);gap:.4rem}
.tiles span{display:block;font-size:.8rem;color:var(--dim)}
.tiles img{width:100%;height:auto;display:block;border-radius:.25rem}
.ramps{display:flex;flex-wrap:wrap;gap:.4rem 2rem;font-size:.85rem;color:var(--dim);margin:.6rem 0 1rem}
.ramps i{display:inline-block;width:7rem;height:.7rem;border-radius:.2rem;margin:0 .4rem;
border:1px solid var(--line)}
pre{background:var(--card);border-radius:.6rem;padding:.8rem 1rem;overflow-x:auto;font-size:.88rem;
white-space:pre-wrap;overflow-wrap:anywhere}
code{font-size:.92em}
dt{font-weight:600;margin-top:.7rem}dd{margin:0;max-width:46rem}
summary{cursor:pointer;color:var(--dim);margin:.6rem 0}
a{color:var(--after)}
@media(max-width:42rem){body{padding:1rem .9rem 3rem}.tiles{grid-template-columns:repeat(2,1fr)}
.tiles div:first-child{grid-column:1/-1}
h1{font-size:1.4rem}.answer>p:first-child{font-size:1.12rem}
.wide thead{display:none}.wide tr{display:block;border-bottom:1px solid var(--line);padding:.5rem 0}
.wide td,.wide th{display:block;text-align:left;border:0;padding:.1rem 0}
.wide td::before{content:attr(data-head) " ";color:var(--dim);font-size:.85rem}
.wide td .dim{display:inline}}
"""


def number(
    value: float | int | None, *, digits: int = 3, percent: bool = False, sign: bool = False
) -> str:
    """A number for people, beside its exact value for programs; a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    shown = 100 * value if percent else value
    places = 1 if percent else digits
    text = f"{shown:{'+' if sign else ''}.{places}f}".replace("-", "−")
    if float(text.replace("−", "-")) == 0:
        text = text.lstrip("+−")
    return f'<data value="{value!r}">{text}{" %" if percent else ""}</data>'


def millions(count: int) -> str:
    """Millions, for people; the exact count for programs."""
    return f'<data value="{count!r}">{count / 1e6:,.1f}</data>'


def interval(estimate: Json, **how: Any) -> str:
    """A value with its interval under it."""
    ends = f"{number(estimate['low'], **how)} to {number(estimate['high'], **how)}"
    if estimate["value"] is None:
        return "–"
    return f'{number(estimate["value"], **how)} <span class="dim">[{ends}]</span>'


def text(value: Any) -> str:
    """Anything as text in HTML; characters that no encoding knows are spelled out."""
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return escape(words.encode("utf-8", "backslashreplace").decode(), quote=True)


def plain(html: str) -> str:
    """Its words alone."""
    return unescape(re.sub(r"<[^>]+>", "", html))


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "", kind: str = "wide"
) -> str:
    """A table of cells that are HTML already. On a phone each row becomes a block, and each cell
    says its column."""
    top = "".join(f'<th scope="col">{h}</th>' for h in head)
    body = ""
    for first, *rest in rows:
        cells = "".join(
            f'<td data-head="{h}">{cell}</td>' for h, cell in zip(head[1:], rest, strict=True)
        )
        body += f'<tr><th scope="row">{first}</th>{cells}</tr>'
    under = f"<caption>{caption}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table class="{kind}">{under}<thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def render(report: Json, rows: Sequence[Row]) -> str:
    """The whole page.

    Args:
        report: as `dalib.adaptation.write_report` writes it to report.json.
        rows: the contact sheet.
    """
    sections = (
        _head(report),
        _agreement(report),
        _sheet(rows),
        _robustness(report),
        _machine(report),
        _licences(report),
        _export(report),
        _training(report),
        _limits(report),
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(report['title'])}</title><style>{STYLE}</style></head><body>"
        + "".join(sections)
        + "</body></html>\n"
    )


def _head(report: Json) -> str:
    """What was done, the answer, and a picture of it."""
    distance = report["agreement"]["distance"]
    warnings = "".join(f'<p class="warn">{text(w)}</p>' for w in report["warnings"])
    machine, licence = report["machine"], report["licence"]
    facts = (
        (f"{number(machine['speed'], digits=1)} ×", "the teacher's speed, on this machine"),
        (
            f"{millions(machine['student']['parameters'])} M",
            f"parameters; the teacher has {millions(machine['teacher']['parameters'])} M",
        ),
        (
            number(report["agreement"]["order"]["after"]["value"], percent=True),
            "of pairs of points in the teacher's order",
        ),
        (text(licence), "licence of the student"),
    )
    boxes = "".join(f"<div><b>{value}</b>{words}</div>" for value, words in facts)
    return (
        f"<header><h1>{text(report['title'])}</h1><p class='dim'>{text(report['subtitle'])}</p>"
        f'<div class="answer"><p>{answer(report)}</p>{bars(distance)}{warnings}</div>'
        f'<div class="facts">{boxes}</div></header>'
    )


def answer(report: Json) -> str:
    """The report's first sentence, its numbers as `<data>`."""
    nearer = report["nearer"]
    count = f'<data value="{nearer["n"]}">{nearer["n"]}</data>'
    if report["verdict"] == "same":
        return f"The student is its teacher: nothing was to be gained, on {count} photographs it has not seen."
    ends = [nearer["low"], nearer["high"]]
    size = nearer["value"]
    how = {"percent": True}
    if report["verdict"] == "nearer":
        inside = " to ".join(number(x, **how) for x in ends)
        return (
            f"The student is {number(size, **how)} nearer to its teacher than it was, on {count} "
            f"photographs it has not seen [{inside}]."
        )
    inside = " to ".join(number(x, sign=True, **how) for x in ends)
    if report["verdict"] == "farther":
        return (
            "The student is not nearer to its teacher than it was, but farther: a change of "
            f"{number(size, sign=True, **how)} of the way to it, on {count} photographs it has not "
            f"seen [{inside}]."
        )
    return (
        f"It is not shown that the student is nearer to its teacher than it was: "
        f"{number(size, sign=True, **how)} of the way to it, on {count} photographs it has not seen, "
        f"and the interval holds 0 [{inside}]."
    )


def bars(distance: Json) -> str:
    """Distances before and after on a line from the teacher (0) past a map without depth (1)."""
    ends = [distance[k]["high"] or 0 for k in ("before", "after")]
    most = max(1.3, 1.25 * max(ends))

    def place(value: float) -> str:
        return f"{100 * value / most:.2f}%"

    rows = ""
    for key in ("before", "after"):
        e = distance[key]
        width = f"calc({place(e['high'])} - {place(e['low'])})"
        rows += (
            f'<div class="bar {key}"><span>{key}</span><div>'
            f'<i style="left:0;width:{place(e["value"])}"></i>'
            f'<s style="left:{place(e["low"])};width:{width}"></s>'
            f'<u style="left:{place(e["value"])}"></u>'
            f'<b style="left:{place(e["high"])}">{number(e["value"])}</b></div></div>'
        )
    return (
        f'<div class="bars"><div class="bar"><span></span><div><em>its teacher</em><em '
        f'style="left:{place(FLAT)};transform:translateX(-50%)">no depth at all</em></div></div>'
        f'{rows}<div class="marks"><q style="left:0"></q><q style="left:{place(FLAT)}"></q></div>'
        "</div><p class='dim'>Distance to the teacher: shorter is better. Lines: 95 % interval over "
        "photographs.</p>"
    )


def _agreement(report: Json) -> str:
    rows = []
    for key, measure in MEASURES.items():
        found = report["agreement"][key]
        how = {"percent": measure.percent}
        change = found["difference"]
        good = ""
        if change["value"] is not None and (change["low"] > 0 or change["high"] < 0):
            better = (change["value"] > 0) == (measure.better == "higher")
            good = "good" if better else "bad"
        rows.append(
            (
                f'{text(measure.label)}<span class="dim"> {measure.better} is better</span>',
                interval(found["before"], **how),
                interval(found["after"], **how),
                f'<span class="{good}">{interval(change, sign=True, **how)}</span>',
                f'<data value="{change["n"]}">{change["n"]}</data>',
            )
        )
    meanings = "".join(
        f"<dt>{text(m.label)}</dt><dd>{text(m.meaning)}</dd>" for m in MEASURES.values()
    )
    sizes = report["sizes"]
    seen = (
        f"Photographs were shrunk to a short side of at most {number(sizes['picture'], digits=0)} "
        f"pixels, at which maps are compared; the teacher sees them at "
        f"{number(sizes['teacher'], digits=0)}, the student at {number(sizes['student'], digits=0)}."
    )
    head = ("measure", "before", "after", "after − before", "photographs")
    return (
        "<section><h2>Agreement with the teacher, on photographs kept back</h2>"
        + table(
            head,
            rows,
            caption="Means over photographs; in brackets their 95 % bootstrap intervals, of the "
            "differences over the same photographs. Coloured where the interval leaves out 0.",
        )
        + f"<p class='dim'>{seen}</p><details><summary>What each measure is, and why not AbsRel"
        f"</summary><dl>{meanings}</dl><p>AbsRel and δ &lt; 1.25 divide by the target. A teacher's "
        "disparity is known up to a scale and a shift, and the shift, which nobody knows, would "
        "change them at will. No scale and no shift changes what stands here.</p></details></section>"
    )


def _sheet(rows: Sequence[Row]) -> str:
    words = {
        "photograph": "photograph",
        "teacher": "teacher",
        "before": "student before",
        "after": "student after",
        "difference": "after differs here",
    }
    groups = (
        ("worst", "Where the student is farthest from its teacher now"),
        ("random", "Others, chosen at random"),
    )
    html = ""
    for why, title in groups:
        chosen = [row for row in rows if row.why == why]
        if not chosen:
            continue
        html += f"<h3>{title}</h3>"
        for row in chosen:
            images = "".join(
                f'<div><span>{words[k]}</span><img alt="{words[k]}" src="{row.tiles[k]}"></div>'
                for k in TILES
            )
            html += (
                f'<figure><div class="tiles">{images}</div><figcaption>{text(row.name)}: distance '
                f"{number(row.before)} before, {number(row.after)} after</figcaption></figure>"
            )
    legend = (
        f'<div class="ramps"><span>far<i style="background:{css_ramp(DEPTH)}"></i>near</span>'
        f'<span>equal<i style="background:{css_ramp(DIFFERENCE)}"></i>apart by {MOST:g} of the '
        "teacher's mean deviations or more</span></div>"
    )
    note = (
        "<p>Each map is shown minus its median and divided by its mean absolute deviation, as the "
        "distance takes it, in the colours of the teacher's range.</p>"
    )
    return f"<section><h2>Look at it</h2>{note}{legend}{html}</section>"


def _robustness(report: Json) -> str:
    if not report["conditions"]:
        return ""
    units = {
        "clean": lambda _: "as they are",
        "blur": lambda x: f"Gaussian, σ {number(x, digits=1)} pixels per 96 rows",
        "dark": lambda x: f"{number(x, digits=1)} stops less light",
        "noise": lambda x: f"σ {number(x, digits=2)} of the range",
        "jpeg": lambda x: f"quality {number(x, digits=0)}",
    }
    rows = [
        (
            f'{text(c["name"])} <span class="dim">{units[c["name"]](c["amount"])}</span>',
            interval(c["teacher"]),
            interval(c["before"]),
            interval(c["after"]),
            interval(c["difference"], sign=True),
            interval(c["behind"], sign=True),
        )
        for c in report["conditions"]
    ]
    count = report["conditions"][0]["after"]["n"]
    head = (
        *("photographs", "teacher itself", "student before", "student after"),
        *("after − before", "after − teacher"),
    )
    return (
        "<section><h2>Under blur, dark and noise</h2><p>The distance to what the teacher sees in "
        "the clean photograph, when the photograph is made worse. The teacher's own distance says "
        "how much it is thrown off itself.</p>"
        + table(
            head,
            rows,
            caption=f'<data value="{count}">{count}</data> of the photographs; distance as above: '
            "lower is better, 1 is no depth at all.",
        )
        + "</section>"
    )


def _machine(report: Json) -> str:
    m = report["machine"]
    teacher, student = m["teacher"], m["student"]

    def look(cost: Json) -> str:
        h, w = cost["input"]
        return f'<data value="{h}">{h}</data> × <data value="{w}">{w}</data>'

    def timed(cost: Json) -> str:
        ends = f"{number(cost['fast'], digits=1)} to {number(cost['slow'], digits=1)}"
        return f"{number(cost['milliseconds'], digits=1)} <span class='dim'>[{ends}]</span>"

    rows = [
        ("encoder", text(teacher["encoder"]), text(student["encoder"]), ""),
        (
            "parameters, millions",
            millions(teacher["parameters"]),
            millions(student["parameters"]),
            f"{number(m['parameters'], digits=1)} ×",
        ),
        (
            "file, MB",
            millions(teacher["bytes"]),
            millions(student["bytes"]),
            f"{number(m['bytes'], digits=1)} ×",
        ),
        ("input, pixels", look(teacher), look(student), ""),
        (
            "ms a photograph",
            timed(teacher),
            timed(student),
            f"{number(m['speed'], digits=1)} × as fast",
        ),
    ]
    if student["memory"] is not None:
        rows.append(("memory, MB", millions(teacher["memory"]), millions(student["memory"]), ""))
    h, w = m["picture"]
    where = f"{text(m['name'])}, {text(m['device'])}"
    if m["device"] == "cpu":
        threads = f'<data value="{m["threads"]}">{m["threads"]}</data>'
        where += f", {threads} thread{'s' if m['threads'] != 1 else ''}"
    caption = (
        f"On {where}, PyTorch {text(m['torch'])}. Median and quartiles of "
        f'<data value="{m["rounds"]}">{m["rounds"]}</data> runs of each, in turn and warm, on a '
        f'picture of <data value="{h}">{h}</data> × <data value="{w}">{w}</data> pixels; the '
        "network alone, without reading and resizing."
        + (" Memory is not measured on a CPU." if student["memory"] is None else "")
    )
    head = ("", "teacher", "student", "teacher / student")
    return (
        f"<section><h2>Speed and size on this machine</h2>{table(head, rows, caption=caption)}"
        "</section>"
    )


def _licences(report: Json) -> str:
    def cell(origin: Json) -> str:
        source = origin["source"]
        linked = source.startswith("https://")
        shown = f'<a href="{text(source)}">{text(source)}</a>' if linked else text(source or "–")
        note = f'<span class="dim" style="white-space:normal"> {text(origin["note"])}</span>'
        return shown + (note if origin["note"] else "")

    rows = [
        (text(o["name"]), text(o["role"]), text(o["licence"]), cell(o)) for o in report["origins"]
    ]
    head = ("weights", "used as", "licence", "stated at")
    said = f"<p><b>The student is under {text(report['licence'])}.</b> {text(report['terms'])}</p>"
    return (
        f"<section><h2>Licences</h2>{said}{table(head, rows, kind='text wide')}"
        '<p class="dim">Whether a student is bound by the licence of the teacher whose outputs it '
        "learned from is a question of law that is not decided everywhere. Here it is taken to be, "
        "and the student's file and every export of it carry the licence. The photographs have "
        "terms of their own, which this page does not know.</p></section>"
    )


def _export(report: Json) -> str:
    blocks = "".join(
        f"<p>{text(c['for'])}</p><pre><code>{text(c['command'])}</code></pre>"
        for c in report["commands"]
    )
    return f"<section><h2>Use it</h2>{blocks}</section>"


def _training(report: Json) -> str:
    split = report["split"]
    rows = [(text(k), _value(v)) for k, v in report["trained"].items()]
    kept = _split(split)
    return (
        f"<section><h2>How it was trained</h2><p>{kept}</p>"
        + table(("setting", "value"), rows, kind="text wide")
        + "</section>"
    )


def _split(split: Json) -> str:
    """How photographs were kept back, in words."""
    if split["all"] is None:
        return "Nobody said how the photographs that are compared here were chosen."

    def count(key: str) -> str:
        return f'<data value="{split[key]}">{split[key]}</data>'

    kept = (
        f"{count('kept')} of {count('all')} photographs were kept back, by a hash of each one's "
        f"name and the seed {count('seed')}. "
    )
    if split["checked"]:
        return kept + (
            f"Near doubles were looked for ({count('doubles')} photographs have one) and are never "
            "on both sides."
        )
    return kept + (
        "Near doubles were not looked for among so many: some of what was kept back may have a "
        "near double that was trained on, which flatters the student."
    )


def _value(value: Any) -> str:
    """A setting: numbers as they are, dictionaries as lines."""
    if isinstance(value, Mapping):
        return "<br>".join(f"{text(k)}: {_value(v)}" for k, v in value.items())
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, (int, float)):
        return (
            f'<data value="{value!r}">{value:g}</data>'
            if isinstance(value, float)
            else (f'<data value="{value}">{value}</data>')
        )
    return text(value)


def _limits(report: Json) -> str:
    points = "".join(f"<li>{text(p)}</li>" for p in report["limits"])
    return (
        f"<section><h2>What these numbers cannot say</h2><ul>{points}</ul>"
        f"<p class='dim'>Every number here, and the value of each photograph, stands in "
        f"<code>report.json</code> (version {number(report['schema'], digits=0)}). Written by dalib "
        f"{text(report['dalib'])}.</p></section>"
    )
