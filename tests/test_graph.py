"""Graphs: names, scopes, collections, control edges, export and import, freezing, pictures."""
from __future__ import annotations

import json
import xml.etree.ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow import graph_def, graph_util
from graphflow.debug import draw
from graphflow.flags import flags


@pytest.fixture(autouse=True)
def graph():
    with flags.override(interpret=1), tf.Graph().as_default() as g:
        yield g


def run(fetch, feed=None):
    with tf.Session() as sess:
        return sess.run(fetch, feed)


# ---------------------------------------------------------------- names and scopes


def test_unique_names(graph):
    assert [tf.constant(0, name="a").name for _ in range(3)] == ["a:0", "a_1:0", "a_2:0"]
    assert tf.constant(0, name="A").name == "A_3:0"  # compared without case
    with tf.name_scope("s") as s, tf.name_scope("t"):
        assert tf.constant(0, name="a").name == "s/t/a:0"
    with tf.name_scope("s"):
        assert tf.constant(0, name="a").name == "s_1/a:0"
    with tf.name_scope(s):
        assert tf.constant(0, name="b").name == "s/b:0"
        with tf.name_scope(None):
            assert tf.constant(0, name="b").name == "b:0"


def test_name_scope_forms(graph):
    with tf.name_scope(None, "default", [tf.constant(1)]) as scope:
        assert scope == "default/"
    with tf.op_scope([tf.constant(1)], "given", "default") as scope:
        assert scope == "given/"
    with pytest.raises(ValueError, match="must be provided"):
        tf.name_scope(None, values=[1])
    with pytest.raises(ValueError, match="valid"), tf.name_scope("a b"):
        pass
    with tf.Graph().as_default():
        other = tf.constant(1)
    with tf.name_scope("x", values=[other]):
        assert tf.get_default_graph() is other.graph
    with pytest.raises(ValueError, match="same graph"), tf.name_scope("x", values=[other, tf.constant(2)]):
        pass


def test_collections(graph):
    tf.add_to_collection("c", 1)
    tf.add_to_collections(["c", "d"], 2)
    assert tf.get_collection("c") == [1, 2] and tf.get_collection("d") == [2] and tf.get_collection("e") == []
    tf.get_collection("c").append(3)
    tf.get_collection_ref("d").append(4)
    assert tf.get_collection("c") == [1, 2] and tf.get_collection("d") == [2, 4]
    a = tf.constant(0, name="x/a")
    tf.add_to_collection("t", a)
    tf.add_to_collection("t", 5)
    assert tf.get_collection("t", "x/") == [a] and tf.get_collection("t", "y") == []


def test_control_dependencies(graph):
    a, b = tf.constant(1, name="a"), tf.constant(2, name="b")
    with tf.control_dependencies([a]):
        c = tf.constant(3)
        with tf.control_dependencies([b.op, a]):
            d = tf.constant(4)
        with tf.control_dependencies(None):
            e = tf.constant(5)
    assert [x.op.control_inputs for x in (c, d, e)] == [(a.op,), (a.op, b.op), ()]


def test_devices(graph):
    with tf.device("/job:worker/task:1"), tf.device("/gpu:0"):
        a = tf.constant(1)
        with tf.device(None):
            b = tf.constant(1)
    with tf.colocate_with(a):
        c = tf.constant(1)
    with tf.device(lambda op: "/cpu:0"):
        d = tf.constant(1)
    assert (a.device, b.device, c.device, d.device) == ("/job:worker/task:1/device:GPU:0", "", a.device, "/device:CPU:0")


def test_looking_up(graph):
    a = tf.constant([1], name="a")
    assert graph.get_tensor_by_name("a:0") is a and graph.get_operation_by_name("a") is a.op and graph.as_graph_element("a:0") is a
    assert a.consumers() == [] and graph.get_operations() == [a.op]
    b = tf.negative(a)
    assert a.consumers() == [b.op]


def test_operations_are_frozen(graph):
    op = tf.constant(1).op
    with pytest.raises(AttributeError, match="immutable"):
        op.name = "other"
    assert op.node_def.op == "Const" and op.get_attr("dtype") == tf.int32 and op.site.file == __file__


def test_set_shape(graph):
    x = tf.placeholder(tf.float32, [None, 3])
    x.set_shape([2, None])
    assert x.shape.as_list() == [2, 3]
    with pytest.raises(ValueError, match="not compatible"):
        x.set_shape([4, 3])


# ---------------------------------------------------------------- export and import


def test_export_of_a_training_step_round_trips(graph):
    tf.set_random_seed(1)
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    v = tf.get_variable("v", [3, 2])
    y = tf.nn.softmax(tf.matmul(x, v) + tf.constant([1.0, 2.0]), name="y")
    loss = tf.reduce_mean(tf.square(y), name="loss")
    with tf.control_dependencies([y]):
        step = v.assign_sub(0.5 * tf.gradients(loss, v)[0], name="step")
    init = tf.global_variables_initializer()
    data = graph.as_graph_def().SerializeToString()
    json.loads(data)

    def train(loss, step, init, x):
        with tf.Session() as sess:
            sess.run(init)
            return [sess.run([loss, step], {x: np.eye(3)}) for _ in range(3)]

    expected = train(loss, step, init, x)
    with tf.Graph().as_default() as other:
        again = tf.GraphDef()
        assert again.ParseFromString(data) == len(data)
        assert again == graph.as_graph_def()
        found = tf.import_graph_def(again, return_elements=["loss:0", step.name, init.name, "x:0"], name="")
        assert other.as_graph_def() == again
        for a, b in zip(expected, train(*found)):
            for p, q in zip(a, b):
                np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("value, dtype", [
    (np.arange(6).reshape(2, 3), tf.int64), ([True, False], tf.bool), ([1.5, np.inf, np.nan], tf.float64), ([1 + 2j], tf.complex64),
    ([1.5, -3.25], tf.bfloat16), ([1.5], tf.float16), ([b"bytes", b"\xff"], tf.string), (np.zeros((0, 3)), tf.float32), (7, tf.uint8)],
    ids=str)
def test_constants_round_trip(graph, value, dtype):
    c = tf.constant(value, dtype, name="c")
    data = graph.as_graph_def().to_json()
    with tf.Graph().as_default():
        d, = tf.import_graph_def(tf.GraphDef.from_json(data), return_elements=["c:0"])
        assert d.dtype == c.dtype and d.shape == c.shape and d.name == "import/c:0"
        np.testing.assert_array_equal(run(d), run_in(c))


def run_in(t):
    with tf.Session(graph=t.graph) as sess:
        return sess.run(t)


ATTRIBUTES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2**70, 2**70), st.floats(), st.text(max_size=8), st.binary(max_size=8),
              st.complex_numbers(),
              st.sampled_from([tf.float32, tf.bfloat16, tf.string, ...]),
              st.builds(slice, st.none() | st.integers(-5, 5), st.none(), st.integers(1, 3))),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner,
                                                         max_size=3).map(tuple) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                                                         max_leaves=10)


@given(ATTRIBUTES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_attributes_round_trip(value):
    again = graph_def.decode(json.loads(json.dumps(graph_def.encode(value))))
    assert repr(again) == repr(value) and type(again) is type(value)


UNARY = [tf.negative, tf.square, tf.tanh, tf.abs, lambda x: tf.reduce_sum(x, 0, keepdims=True), lambda x: tf.transpose(x),
         lambda x: tf.expand_dims(x, 0)[0],
         lambda x: tf.cast(tf.cast(x, tf.float64), tf.float32), lambda x: tf.concat([x, x], 0), lambda x: x[:1],
         lambda x: tf.reshape(x, [-1, 1]),
         lambda x: tf.where(x > 0, x, -x), lambda x: tf.Print(x, [x], first_n=0), lambda x: tf.check_numerics(x, "m")]
BINARY = [tf.add, tf.subtract, tf.multiply, tf.maximum]


@given(st.lists(st.tuples(st.integers(0, len(UNARY) + len(BINARY) - 1), st.integers(0, 99), st.integers(0, 99), st.booleans()), min_size=1,
                max_size=15))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_graphs_round_trip(steps):
    with flags.override(interpret=1), tf.Graph().as_default() as g:
        tensors = [tf.placeholder(tf.float32, [2, 3], name="x"), tf.random_normal([2, 3], seed=1), tf.constant(0.5)]
        for which, i, j, control in steps:
            a, b = tensors[i % len(tensors)], tensors[j % len(tensors)]
            try:
                with tf.control_dependencies([b] if control else None):
                    tensors.append(UNARY[which](a) if which < len(UNARY) else BINARY[which - len(UNARY)](a, b))
            except ValueError:
                continue  # shapes that do not fit
        data = g.as_graph_def().SerializeToString()
        feed = np.linspace(-1, 1, 6).reshape(2, 3)
        expected = run(tensors, {"x:0": feed})
    with flags.override(interpret=1), tf.Graph().as_default() as other:
        again = tf.GraphDef.from_json(data)
        found = tf.import_graph_def(again, return_elements=[t.name for t in tensors], name="")
        assert [t.shape for t in found] == [t.shape for t in tensors] and [t.name for t in found] == [t.name for t in tensors]
        for p, q in zip(expected, run(found, {"x:0": feed})):
            np.testing.assert_array_equal(p, q)
        assert other.as_graph_def() == again


def test_import_replaces_inputs(graph):
    x = tf.placeholder(tf.float32, [2], name="x")
    tf.add(x, 1.0, name="y")
    data = graph.as_graph_def()
    with tf.Graph().as_default():
        y, op = tf.import_graph_def(data, {"x:0": tf.constant([1.0, 2.0])}, ["y:0", "y"], name="sub")
        assert run(y).tolist() == [2, 3] and y.name == "sub/y:0" and op is y.op
        z, = tf.import_graph_def(data, {"x": np.float32([5, 6])}, ["y:0"])
        assert run(z).tolist() == [6, 7] and z.name == "import/y:0"


def test_narrowed_shapes_are_kept(graph):
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    x.set_shape([2, 3])
    data = graph.as_graph_def()
    with tf.Graph().as_default():
        y, = tf.import_graph_def(data, return_elements=["x:0"])
        assert y.shape.as_list() == [2, 3]


def test_nodes_may_stand_in_any_order(graph):
    x = tf.constant(3.0, name="x")
    tf.square(x, name="y")
    data = graph.as_graph_def()
    data.node.reverse()
    with tf.Graph().as_default():
        assert run(tf.import_graph_def(data, return_elements=["y:0"])) == [9]


@pytest.mark.parametrize("spoil, message", [
    (lambda d: setattr(d.node[1], "op", "Sqare"), "No op named Sqare"),
    (lambda d: d.node[1].input.append("nowhere"), "nowhere"),
    (lambda d: d.node[1].input.__setitem__(0, "x:4"), "output"),
    (lambda d: d.node[1].input.__setitem__(0, "y"), "cycle"),
    (lambda d: d.node[0].attr.pop("value"), "lacks"),
    (lambda d: d.node[0].attr.update(other=1), "unknown attribute"),
    (lambda d: d.node.append(d.node[0]), "two nodes"),
])
def test_malformed_graphs(graph, spoil, message):
    tf.square(tf.constant(3.0, name="x"), name="y")
    data = graph.as_graph_def()
    spoil(data)
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        tf.import_graph_def(data)


@pytest.mark.parametrize("text",
                         [b"", b"{}", b"[]", b"\x80\x04pickle", b'{"format": 99, "node": []}', b'{"format": 1, "node": [{"name": 1}]}',
                                  b'{"format": 1, "node": [{"name": "a", "op": "Const", "input": [], "device": "", '
                                  b'"attr": {"value": {"array": {"dtype": "int32", "shape": [9], "data": ""}}}}]}'])
def test_bytes_that_are_no_graph(text):
    with pytest.raises(ValueError, match="Error parsing GraphDef"):
        tf.GraphDef().ParseFromString(text)


def test_bad_import_arguments(graph):
    tf.constant(1.0, name="x")
    data = graph.as_graph_def()
    with pytest.raises(ValueError, match="not found in graph_def.*nope"):
        tf.import_graph_def(data, {"nope": 1.0})
    with pytest.raises(ValueError, match="nope"):
        tf.import_graph_def(data, return_elements=["nope:0"])
    for arguments in ((3,), (data, [1]), (data, {1: 2}), (data, None, [3])):
        with pytest.raises(TypeError):
            tf.import_graph_def(*arguments)


def test_python_functions_cannot_be_exported():
    with pytest.raises(TypeError, match="no plain data"):
        graph_def.encode(lambda: 0)


def test_write_graph(graph, tmp_path):
    tf.constant(1.0, name="x")
    path = graph_def.write_graph(graph, str(tmp_path / "new"), "g.json")
    with open(path) as f:
        assert tf.GraphDef.from_json(f.read()) == graph.as_graph_def()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["g.json"]


# ---------------------------------------------------------------- graph_util


def test_freezing(graph):
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    v = tf.get_variable("v", [2], initializer=tf.constant_initializer([3.0, 4.0]))
    w = tf.get_variable("w", [], tf.int32, initializer=tf.constant_initializer(1))
    y = tf.multiply(x, v, name="y")
    tf.add(w, 1, name="z")
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        frozen = graph_util.convert_variables_to_constants(sess, graph.as_graph_def(), ["y"])
        expected = sess.run(y, {x: [[1, 2]]})
        with pytest.raises(ValueError, match="not in graph"):
            graph_util.convert_variables_to_constants(sess, graph.as_graph_def(), ["nope"])
    assert "w" not in {n.name for n in frozen.node} and not any("Variable" in n.op for n in frozen.node)
    with tf.Graph().as_default():
        x2, y2 = tf.import_graph_def(frozen, return_elements=["x:0", "y:0"])
        np.testing.assert_array_equal(run(y2, {x2: [[1, 2]]}), expected)
        smaller = graph_util.remove_training_nodes(frozen, ["y"])
        assert len(smaller.node) == len(frozen.node) - 1
        x3, y3 = tf.import_graph_def(smaller, return_elements=["x:0", "y:0"])
        np.testing.assert_array_equal(run(y3, {x3: [[1, 2]]}), expected)


def test_extract_sub_graph(graph):
    a, b = tf.constant(1, name="a"), tf.constant(2, name="b")
    with tf.control_dependencies([b]):
        tf.negative(a, name="c")
    tf.constant(3, name="d")
    part = graph_util.extract_sub_graph(graph.as_graph_def(), ["c"])
    assert [n.name for n in part.node] == ["a", "b", "c"]
    with pytest.raises(TypeError):
        graph_util.extract_sub_graph(part, "c")


# ---------------------------------------------------------------- pictures


def drawn():
    with tf.name_scope('outer'), tf.name_scope("inner"):
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        with tf.control_dependencies([tf.constant("say \"hi\" \\ <b> & \n", name="text")]):
            y = tf.reduce_sum(x * 2.0, name="y")
    return tf.identity(y, name="z").graph.get_operations()


def test_dot(graph):
    text = draw.to_dot(drawn())
    assert text.count("{") == text.count("}") and text.startswith("digraph")
    assert 'subgraph "cluster_outer/inner"' in text and '[style=dashed]' in text and 'float32[?,3]' in text
    assert '\\"hi\\"' in text.replace("\\\\", "") or "say" in text
    for line in text.splitlines():  # every quote that opens also closes
        assert line.replace("\\\\", "").replace('\\"', "").count('"') % 2 == 0
    assert graph.to_dot() == text


def test_pictures_show_devices():
    with tf.device("/job:worker/gpu:1"):
        y = tf.negative(tf.constant(1.0), name="y")
    with tf.device("/cpu:0"):
        z = tf.negative(y, name="z")
    dot, svg = draw.to_dot([y.op, z.op]), draw.to_svg([y.op, z.op])
    assert 'label="y\\nNeg\\nGPU:1"' in dot and 'label="z\\nNeg\\nCPU:0"' in dot and dot.count('color="#3a8a3a", penwidth=2') == 1
    assert svg.count('stroke="#3a8a3a"') == 1


def test_dot_is_accepted_by_a_parser():
    pydot = pytest.importorskip("pydot")
    assert pydot.graph_from_dot_data(draw.to_dot(drawn()))


def test_networkx():
    g = draw.to_networkx(drawn())
    edge = g.get_edge_data("outer/inner/x", "outer/inner/mul")[0]
    assert edge["shape"] == "[?,3]" and edge["dtype"] == "float32" and not edge["control"]
    assert any(d["control"] for *_, d in g.edges(data=True)) and g.nodes["z"]["type"] == "Identity"
    assert len(g) == len(tf.get_default_graph().get_operations())


def test_text():
    lines = draw.to_text(drawn()).splitlines()
    assert len(lines) == len(tf.get_default_graph().get_operations())
    assert any(x.startswith("outer/inner/x: float32[?,3] = Placeholder()") and __file__ in x for x in lines)
    assert any("^outer/inner/text" in x for x in lines)


def test_html_is_well_formed_and_complete():
    ops = drawn()
    page = draw.to_html(ops, "a <title> & more")
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page
    root = xml.etree.ElementTree.fromstring(draw.to_svg(ops))
    space = "{http://www.w3.org/2000/svg}"
    assert len([g for g in root.iter(space + "g") if g.get("class") == "n"]) == len(ops)
    assert len([p for p in root.iter(space + "path")
                if p.get("class") == "e"]) == sum(len(op.inputs) + len(op.control_inputs) for op in ops)
    assert draw.to_svg([]).startswith("<svg")


def test_boxes_do_not_overlap_and_data_flows_downwards():
    rng = np.random.default_rng(0)
    tensors = [tf.constant(float(i)) for i in range(5)]
    for _ in range(150):
        tensors.append(tf.add(*[tensors[i] for i in rng.integers(max(0, len(tensors) - 25), len(tensors), 2)]))
    layout = draw.Layout(tf.get_default_graph().get_operations())
    rows: dict[float, list[draw.Box]] = {}
    for b in layout.boxes():
        rows.setdefault(b.y, []).append(b)
    for row in rows.values():
        row.sort(key=lambda b: b.x)
        assert all(a.x + a.width / 2 < b.x - b.width / 2 for a, b in zip(row, row[1:]))
    assert all(layout.row[a] < layout.row[b] for a, b, _ in layout.edges)


def test_a_deep_graph_draws_without_recursion():
    x = tf.constant(1.0)
    for _ in range(3000):
        x = tf.negative(x)
    ops = x.graph.get_operations()
    assert draw.to_svg(ops).count('class="n"') == len(ops) and len(draw.to_dot(ops)) > 3000
