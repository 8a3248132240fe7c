"""Pictures of operations: DOT, networkx, text, SVG and a page that opens in any browser.

Every function takes an iterable of operations, of a graph or of a pass's result, so that each stage of the compiler can be
drawn.  Knows operations by their public fields only; the layout below needs neither Graphviz nor networkx.
"""
from __future__ import annotations

import html
from typing import Any, Iterable, NamedTuple, Sequence

import numpy as np

from .. import types
from ..graph import Operation, Region, Tensor

# Fill colours by family, light enough for black text.
COLOURS = {"elementwise": "#d7e8fb", "reduction": "#fde2c4", "movement": "#e6e6e6", "contraction": "#f9c9c9", "indexing": "#d9f0d3",
           "random": "#eadcf4",
           "linalg": "#fbd5e5", "state": "#fff2b3", "constant": "#f2f2f2", "input": "#c9efe9", "composite": "#cfd8f5", "host": "#e8d6c3",
           "window": "#f7d0b5",
           "scan": "#ddeec2", "attention": "#f4b6b6", "control": "#ffffff"}


def _colour(op: Operation) -> str:
    return COLOURS.get(op.opdef.family, "#eeeeee")


def _border(op: Operation) -> str:
    """The colour of a box's border: that of its device, where `tf.device` names a GPU."""
    return "#3a8a3a" if "GPU" in op.device else ""


def spec_text(t: Tensor) -> str:
    """`float32[2,?]`."""
    return t.dtype.name + types.shape_text(t.sizes)


def _keys(ops: Sequence[Operation]) -> dict[Operation, str]:
    """Unique names: passes may hold several ops of one name."""
    out: dict[Operation, str] = {}
    seen: dict[str, int] = {}
    for op in ops:
        n = seen[op.name] = seen.get(op.name, 0) + 1
        out[op] = op.name if n == 1 else f"{op.name}#{n}"
    return out


# ---------------------------------------------------------------- DOT


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "") + '"'


def to_dot(ops: Iterable[Operation], title: str = "graph") -> str:
    """Graphviz's DOT: clusters by name scope, dtype and shape on the edges, control edges dashed, colours by family."""
    found = list(ops)
    keys = _keys(found)
    lines = [f"digraph {_quote(title)} {{", '  rankdir=TB; node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=10];',
             '  edge [fontname="Helvetica", fontsize=8, color="#555555"];']
    _clusters(_tree(found), keys, lines, "  ", "")
    for op in found:
        for t in op.inputs:
            if t.op in keys:
                lines.append(f"  {_quote(keys[t.op])} -> {_quote(keys[op])} [label={_quote(_edge_label(t))}];")
        for c in op.control_inputs:
            if c in keys:
                lines.append(f"  {_quote(keys[c])} -> {_quote(keys[op])} [style=dashed];")
    for t, op in _leaving(found):
        if t.op in keys:
            lines.append(f"  {_quote(keys[t.op])} -> {_quote(keys[op])} [style=dotted, label={_quote(_edge_label(t))}];")
    return "\n".join([*lines, "}"]) + "\n"


def _edge_label(t: Tensor) -> str:
    return (f":{t.value_index} " if len(t.op.outputs) > 1 else "") + spec_text(t)


def _leaving(ops: Iterable[Operation]) -> list[tuple[Tensor, Operation]]:
    """What leaves the branches and loop bodies, with the op that owns them; these are no inputs of it."""
    found = [(t, op) for op in ops for r in op.attrs.get("regions", ()) for t in r.results if t.op.region is r]
    return list(dict.fromkeys(found))


def _path(op: Operation) -> list[str]:
    """The clusters around an op: scopes, and in those of a branch or loop one for each of its regions."""
    regions, region = [], op.region
    while region is not None:
        regions.insert(0, region)
        region = region.outer
    parts: list[str] = []
    scopes = op.name.split("/")[:-1]
    for r in regions:
        around = r.name.split("/")[:-1]
        shared = around if scopes[:len(around)] == around else []
        parts += [*shared[len([p for p in parts if not p.startswith("[")]):], f"[{_region_name(r)}]"]
    return parts + scopes[len([p for p in parts if not p.startswith("[")]):]


def _region_name(region: Region) -> str:
    owner = region.owner
    names = {"Cond": ("true_fn", "false_fn"), "While": ("cond", "body")}.get(owner.type if owner else "", ())
    regions = owner.attrs["regions"] if owner else ()
    return f"{region.name.split('/')[-1]} {names[regions.index(region)]}" if names and region in regions else region.what


def _tree(ops: Iterable[Operation]) -> dict[str, Any]:
    """Nested scopes: names map to a sub-tree, "" to the operations directly inside."""
    root: dict[str, Any] = {"": []}
    for op in ops:
        node = root
        for part in _path(op):
            node = node.setdefault(part or "(empty)", {"": []})
        node[""].append(op)
    return root


def _clusters(root: dict[str, Any], keys: dict[Operation, str], lines: list[str], indent: str, path: str) -> None:
    """Writes the scopes, without recursion: names may nest deeply."""
    todo: list[Any] = [(root, "", indent)]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            lines.append(item)
            continue
        node, path, pad = item
        for op in node[""]:
            label = op.name.split("/")[-1] + (f"\n{op.type}" if op.type != op.name.split("/")[-1] else "")
            label += f"\n{_device(op)}" if op.device else ""
            border = f", color={_quote(_border(op))}, penwidth=2" if _border(op) else ""
            lines.append(f"{pad}{_quote(keys[op])} [label={_quote(label)}, fillcolor={_quote(_colour(op))}{border}, "
                         f"tooltip={_quote(op_text(op))}];")
        for name, child in reversed([(k, v) for k, v in node.items() if k]):
            inner = f"{path}/{name}" if path else name
            todo.append(f"{pad}}}")
            todo.append((child, inner, pad + "  "))
            todo.append(f"{pad}subgraph {_quote('cluster_' + inner)} "
                        f"{{ label={_quote(name)}; color=\"#bbbbbb\"; style=rounded; fontsize=10;")


# ---------------------------------------------------------------- networkx, text


def to_networkx(ops: Iterable[Operation]) -> Any:
    """A `networkx.MultiDiGraph`: nodes are op names with `op`, `type`, `family`, `outputs`, `site`; an edge carries `tensor`,
    `dtype`, `shape` and `input` (its position), or `control=True`."""
    import networkx

    found = list(ops)
    keys = _keys(found)
    g = networkx.MultiDiGraph()
    for op in found:
        g.add_node(keys[op], op=op, type=op.type, family=op.opdef.family, outputs=[spec_text(t) for t in op.outputs],
                   site=str(op.site or ""))
    for op in found:
        for i, t in enumerate(op.inputs):
            if t.op in keys:
                g.add_edge(keys[t.op], keys[op], tensor=t.name, dtype=t.dtype.name, shape=types.shape_text(t.sizes), input=i, control=False)
        for c in op.control_inputs:
            if c in keys:
                g.add_edge(keys[c], keys[op], control=True)
    return g


def _value_text(v: Any) -> str:
    if isinstance(v, np.ndarray):
        if v.size <= 8:
            return np.array2string(v, separator=",", max_line_width=200).replace("\n", "")
        return f"array({v.dtype.name}{types.shape_text(v.shape)})"
    text = v.name if isinstance(v, types.DType) else repr(v)
    return text if len(text) <= 60 else text[:57] + "..."


def op_text(op: Operation) -> str:
    """One line: outputs, type, inputs, attributes, the user's file and line."""
    inputs = ", ".join([*[t.op.name if t.value_index == 0 else t.name for t in op.inputs], *[f"^{c.name}" for c in op.control_inputs]])
    attrs = ", ".join(f"{k}={_value_text(v)}" for k, v in op.attrs.items())
    outputs = ", ".join(map(spec_text, op.outputs)) or "()"
    notes = (f" {{{attrs}}}" if attrs else "") + (f" @{op.device}" if op.device else "") + (f"  # {op.site}" if op.site else "")
    return f"{op.name}: {outputs} = {op.type}({inputs}){notes}"


def to_text(ops: Iterable[Operation]) -> str:
    """One line an operation, in the order given."""
    return "".join(op_text(op) + "\n" for op in ops)


# ---------------------------------------------------------------- layered layout (Sugiyama, Tagawa, Toda 1981)

ROW, GAP, HEIGHT = 92, 22, 44
# Above this many nodes long edges are not routed around boxes, and fewer sweeps are made.
ROUTED_LIMIT = 1500


class Box(NamedTuple):
    """A placed operation: centre and width, in pixels."""

    op: Operation
    x: float
    y: float
    width: float


class Layout:
    """Rows of boxes, and routing points of edges that skip rows.  Items are numbers: operations first, then route points."""

    def __init__(self, ops: Sequence[Operation]):
        self.ops = list(ops)
        number = {op: i for i, op in enumerate(self.ops)}
        self.edges: list[tuple[int, int, Tensor | None]] = [(number[t.op], i, t) for i,
                                                            op in enumerate(self.ops) for t in dict.fromkeys(op.inputs) if t.op in number]
        self.edges += [(number[t.op], number[op], t) for t, op in _leaving(self.ops) if t.op in number]
        self.edges += [(number[c], i, None) for i, op in enumerate(self.ops) for c in op.control_inputs if c in number]
        self.width = [_box_width(op) for op in self.ops]
        self.row = self._rows()
        self.routes = self._route()
        self._order()
        self._place()

    def _rows(self) -> list[int]:
        """Longest path from the sources; then sources move down, next to their first user."""
        after: list[list[int]] = [[] for _ in self.ops]
        waiting = [0] * len(self.ops)
        for a, b, _ in self.edges:
            after[a].append(b)
            waiting[b] += 1
        row = [0] * len(self.ops)
        ready = [i for i, n in enumerate(waiting) if not n]
        sources = list(ready)
        for a in ready:
            for b in after[a]:
                row[b] = max(row[b], row[a] + 1)
                waiting[b] -= 1
                if not waiting[b]:
                    ready.append(b)
        for a in sources:
            if after[a]:
                row[a] = min(row[b] for b in after[a]) - 1
        return row

    def _route(self) -> list[list[int]]:
        """For each edge its items from source to target, one a row."""
        self.above: list[list[int]] = [[] for _ in self.ops]
        self.below: list[list[int]] = [[] for _ in self.ops]
        routes = []
        shared: dict[tuple[int, int], int] = {}
        for a, b, _ in self.edges:
            route = [a]
            if len(self.ops) <= ROUTED_LIMIT:
                for r in range(self.row[a] + 1, self.row[b]):
                    # Edges from one source share their way down.
                    if (a, r) not in shared:
                        shared[a, r] = len(self.row)
                        self.row.append(r)
                        self.width.append(4.0)
                        self.above.append([])
                        self.below.append([])
                    route.append(shared[a, r])
            route.append(b)
            for u, v in zip(route, route[1:]):
                if u not in self.above[v]:
                    self.above[v].append(u)
                    self.below[u].append(v)
            routes.append(route)
        return routes

    def _order(self) -> None:
        """Orders each row by the mean place of its neighbours in the row before, down and up again."""
        self.rows: list[list[int]] = [[] for _ in range(max(self.row, default=-1) + 1)]
        for i, r in enumerate(self.row):
            self.rows[r].append(i)
        place = [0.0] * len(self.row)
        for row in self.rows:
            for k, i in enumerate(row):
                place[i] = k
        for sweep in range(12 if len(self.ops) <= ROUTED_LIMIT else 2):
            near = self.above if sweep % 2 == 0 else self.below
            for row in self.rows if sweep % 2 == 0 else reversed(self.rows):
                row.sort(key=lambda i: (sum(place[j] for j in near[i]) / len(near[i])) if near[i] else place[i])
                for k, i in enumerate(row):
                    place[i] = k - len(row) / 2

    def _place(self) -> None:
        """Centres near those of the neighbours, as far as the widths in the row allow."""
        self.x = [0.0] * len(self.row)
        for row in self.rows:
            at = 0.0
            for i in row:
                self.x[i] = at + self.width[i] / 2
                at += self.width[i] + GAP
            for i in row:
                self.x[i] -= at / 2
        for sweep in range(10):
            near = self.above if sweep % 2 == 0 else self.below
            for row in self.rows if sweep % 2 == 0 else reversed(self.rows):
                wanted = [sum(self.x[j] for j in near[i]) / len(near[i]) if near[i] else self.x[i] for i in row]
                for i, x in zip(row, _separate(wanted, [self.width[i] for i in row])):
                    self.x[i] = x

    def boxes(self) -> list[Box]:
        return [Box(op, self.x[i], self.row[i] * ROW, self.width[i]) for i, op in enumerate(self.ops)]


def _separate(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """The places nearest to `wanted` (least squares) at which boxes in this order do not overlap: pool adjacent violators."""
    offsets, at = [], 0.0
    for i, w in enumerate(widths):
        at += (widths[i - 1] + w) / 2 + GAP if i else 0.0
        offsets.append(at)
    blocks: list[list[float]] = []
    for x, o in zip(wanted, offsets):
        blocks.append([x - o, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            m, n = blocks.pop()
            blocks[-1] = [(blocks[-1][0] * blocks[-1][1] + m * n) / (blocks[-1][1] + n), blocks[-1][1] + n]
    flat = [m for m, n in blocks for _ in range(int(n))]
    return [m + o for m, o in zip(flat, offsets)]


def _box_width(op: Operation) -> float:
    first, second = _labels(op)
    return max(46.0, 7.4 * len(first) + 14, 5.8 * len(second) + 14)


def _device(op: Operation) -> str:
    """`GPU:0`, or all that is said where that is less."""
    return op.device.rpartition("/device:")[2] or op.device


def _shorten(text: str, limit: int = 26) -> str:
    return text if len(text) <= limit else text[:limit // 2 - 1] + "…" + text[-(limit // 2):]


def _labels(op: Operation) -> tuple[str, str]:
    """The two lines of a box: the type, and the last part of the name with its output."""
    spec = spec_text(op.outputs[0]) if op.outputs else ""
    return _shorten(op.type), _shorten(spec)


def _scope(op: Operation) -> str:
    return _shorten(op.name, 30)


def to_svg(ops: Iterable[Operation]) -> str:
    """The picture as one SVG element: data flows downwards, control edges dashed, details in tooltips."""
    layout = Layout(list(ops))
    boxes = layout.boxes()
    left = min((b.x - b.width / 2 for b in boxes), default=0) - 30
    right = max((b.x + b.width / 2 for b in boxes), default=100) + 30
    bottom = max((b.y for b in boxes), default=0) + HEIGHT + 40
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:.0f} -40 {right - left:.0f} {bottom + 20:.0f}" '
           'font-family="Helvetica, Arial, sans-serif">',
           '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
           '<path d="M0,0 L8,4 L0,8 z" fill="#667"/></marker></defs>']
    for (a, b, t), route in zip(layout.edges, layout.routes):
        out.append(_edge_svg(layout, a, b, t, route))
    for i, box in enumerate(boxes):
        out.append(_box_svg(i, box))
    return "\n".join([*out, "</svg>"])


def _edge_svg(layout: Layout, a: int, b: int, t: Tensor | None, route: list[int]) -> str:
    points = [(layout.x[i], layout.row[i] * ROW + HEIGHT / 2) for i in route]
    points[0] = (points[0][0], points[0][1] + HEIGHT / 2)
    points[-1] = (points[-1][0], points[-1][1] - HEIGHT / 2 - 2)
    path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        half = (y1 - y0) / 2
        path += f" C{x0:.1f},{y0 + half:.1f} {x1:.1f},{y1 - half:.1f} {x1:.1f},{y1:.1f}"
    style = ' stroke-dasharray="5,4"' if t is None else ""
    label = "control edge" if t is None else f"{t.name}  {spec_text(t)}"
    return (f'<path class="e" data-a="{a}" data-b="{b}" d="{path}" fill="none" stroke="#889" stroke-width="1.2"{style} '
            f'marker-end="url(#tip)"><title>{html.escape(label)}</title></path>')


def _box_svg(i: int, b: Box) -> str:
    first, second = _labels(b.op)
    x, y = b.x - b.width / 2, b.y
    return (f'<g class="n" data-i="{i}"><title>{html.escape(op_text(b.op))}</title>'
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{b.width:.1f}" height="{HEIGHT}" rx="6" fill="{_colour(b.op)}" '
            f'stroke="{_border(b.op) or "#778"}" stroke-width="{2 if _border(b.op) else 1}"/>'
            f'<text x="{b.x:.1f}" y="{y + 18:.1f}" text-anchor="middle" font-size="12" font-weight="bold">{html.escape(first)}</text>'
            f'<text x="{b.x:.1f}" y="{y + 34:.1f}" text-anchor="middle" font-size="10" fill="#334">{html.escape(second)}</text>'
            f'<text x="{x:.1f}" y="{y - 4:.1f}" font-size="8" fill="#888" textLength="{min(b.width, 4.2 * len(_scope(b.op))):.0f}" '
            f'lengthAdjust="spacingAndGlyphs">{html.escape(_scope(b.op))}</text></g>')


_SCRIPT = """
const svg = document.querySelector('svg'), start = svg.getAttribute('viewBox').split(' ').map(Number);
let box = start.slice(), drag = null;
const show = () => svg.setAttribute('viewBox', box.join(' '));
const scale = () => Math.max(box[2] / svg.clientWidth, box[3] / svg.clientHeight);
svg.addEventListener('wheel', e => { e.preventDefault();
  const f = e.deltaY > 0 ? 1.15 : 1 / 1.15, p = new DOMPoint(e.clientX, e.clientY).matrixTransform(svg.getScreenCTM().inverse());
  box = [p.x - (p.x - box[0]) * f, p.y - (p.y - box[1]) * f, box[2] * f, box[3] * f]; show(); }, {passive: false});
svg.addEventListener('mousedown', e => { drag = [e.clientX, e.clientY]; });
window.addEventListener('mousemove', e => { if (!drag) return; const s = scale();
  box[0] -= (e.clientX - drag[0]) * s; box[1] -= (e.clientY - drag[1]) * s; drag = [e.clientX, e.clientY]; show(); });
window.addEventListener('mouseup', () => { drag = null; });
document.addEventListener('dblclick', () => { box = start.slice(); show(); });
const info = document.getElementById('info'), nodes = [...document.querySelectorAll('.n')], edges = [...document.querySelectorAll('.e')];
nodes.forEach(n => n.addEventListener('click', () => { const i = n.dataset.i; info.textContent = n.querySelector('title').textContent;
  nodes.forEach(m => m.classList.toggle('on', m === n));
  edges.forEach(e => e.classList.toggle('on', e.dataset.a === i || e.dataset.b === i)); }));
document.getElementById('find').addEventListener('input', e => { const q = e.target.value.toLowerCase();
  nodes.forEach(n => n.classList.toggle('dim', q !== '' && !n.querySelector('title').textContent.toLowerCase().includes(q))); });
"""

_STYLE = """body{margin:0;font-family:Helvetica,Arial,sans-serif;display:flex;flex-direction:column;height:100vh}
header{padding:6px 12px;background:#f4f5f8;border-bottom:1px solid
#ccd;font-size:13px;display:flex;gap:14px;align-items:center;flex-wrap:wrap}
svg{flex:1;min-height:0;width:100%;cursor:grab;background:#fff}.n{cursor:pointer}.n.on
rect{stroke:#c30;stroke-width:2.5}.e.on{stroke:#c30;stroke-width:2.4}
.n.dim{opacity:.15}#info{font-family:monospace;font-size:12px;white-space:pre-wrap;padding:4px 12px;min-height:1.4em;background:#fafafa}
i{display:inline-block;width:11px;height:11px;border:1px solid #889;border-radius:3px;margin-right:3px;vertical-align:-1px}"""


def to_html(ops: Iterable[Operation], title: str = "graph") -> str:
    """A page of its own, with no other file and no network: wheel zooms, dragging moves, a click shows an op, double click resets."""
    found = list(ops)
    families = dict.fromkeys(op.opdef.family for op in found)
    legend = "".join(f'<span><i style="background:{COLOURS.get(f, "#eee")}"></i>{html.escape(f)}</span>' for f in families)
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
            f'<style>{_STYLE}</style></head>\n<body>'
            f'<header><b>{html.escape(title)}</b><span>{len(found)} operations</span><input id="find" placeholder="find">{legend}</header>'
            f'{to_svg(found)}<div id="info">Click an operation for details; wheel zooms, drag moves, double click resets.</div>'
            f'<script>{_SCRIPT}</script></body></html>\n')


