"""What clients and controllers refuse, by clear errors and in bounded time."""

import json
import os
import re
import socket
import stat
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime import attach_client, attach_wire
from byways.runtime.attach_state import hold_cluster, write_cluster

from byways import runtime as rt

from . import attached
from .attached import TOKEN, client_of, left

controller, client, part = attached.controller, attached.client, attached.part


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("BYWAYS_STATE", str(tmp_path))
    return tmp_path


def cluster_file(address="127.0.0.1:1", **changed):
    known = {"name": "default", "address": address, "token": TOKEN, "pid": os.getpid()}
    more = {"host": socket.gethostname(), "ray": "", "log": "", "started": 0.0}
    return rt.ClusterFile(**(known | more | changed))


def listening(serve):
    """An address at which `serve` is given each connection."""
    server = socket.create_server(("127.0.0.1", 0))

    def work():
        try:
            while True:
                serve(server.accept()[0])
        except OSError:
            pass

    threading.Thread(target=work, daemon=True).start()
    return server, f"127.0.0.1:{server.getsockname()[1]}"


# Coming in.


def test_a_wrong_token(controller):
    with pytest.raises(rt.AttachError, match="does not know this token"):
        client_of(controller, token="guessed")
    with pytest.raises(ValueError, match="needs a token"):
        rt.Controller(controller.system, "")
    assert not controller.sessions


def test_other_versions_are_refused_and_both_are_named(controller, monkeypatch):
    ours = attach_wire.versions()
    theirs = ours | {"python": "2.7", "jax": "0.0.1"}
    monkeypatch.setattr(attach_client, "versions", lambda: theirs)
    said = re.escape(f"python is 2.7 there and {ours['python']} here; jax is 0.0.1 there and")
    with pytest.raises(rt.VersionMismatch, match=said):
        client_of(controller)
    monkeypatch.setattr(attach_client, "versions", lambda: ours | {"jax_enable_x64": True})
    with pytest.raises(rt.VersionMismatch, match="jax_enable_x64 is True there and False here"):
        client_of(controller)


def test_messages_of_another_form(controller, monkeypatch):
    monkeypatch.setattr(attach_wire, "PROTOCOL", 99)
    monkeypatch.setattr(
        attach_wire,
        "_mismatch",
        lambda hello, known=attach_wire._mismatch: known(hello | {"protocol": 1}),
    )
    with pytest.raises(rt.VersionMismatch, match="of form 1, this controller's of 99"):
        client_of(controller)


def test_a_name_of_a_client_that_is_there(client, controller):
    with pytest.raises(rt.AttachError, match="there is a client 'me' already: take another name"):
        client_of(controller, name="me")
    with pytest.raises(rt.AttachError, match="a weight is above 0"):
        client_of(controller, name="other", weight=-1.0)
    with client_of(controller) as one, client_of(controller) as two:
        assert one.name != two.name
    left(controller, 1)


def test_no_cluster_is_up(state, monkeypatch):
    monkeypatch.delenv("BYWAYS_TOKEN", raising=False)
    with pytest.raises(rt.AttachError, match=r"no cluster 'default' is up.*byways cluster up`"):
        rt.attach()
    with pytest.raises(rt.AttachError, match="byways cluster up --name mine"):
        rt.attach(cluster="mine")
    with pytest.raises(rt.AttachError, match="wants its cluster's token"):
        rt.attach("127.0.0.1:1")
    with pytest.raises(rt.AttachError, match="is host:port"):
        rt.attach("somewhere", token="x")
    with pytest.raises(rt.ControllerGone, match=r"no controller listens at 127.0.0.1:1"):
        rt.attach("127.0.0.1:1", token="x")
    with pytest.raises(rt.AttachError, match="a name is of letters"):
        rt.attach(cluster="../x")


def test_the_file_of_a_dead_cluster(state):
    write_cluster(cluster_file())
    with pytest.raises(rt.ControllerGone, match="is dead: its controller ended without word"):
        rt.attach()
    with hold_cluster("default"):  # its process is alive and does not listen
        assert rt.cluster_alive("default")
        with pytest.raises(rt.ControllerGone, match=r"no controller listens.*the file of cluster"):
            rt.attach()
    assert rt.forget_cluster("default", os.getpid() + 1) is False
    assert rt.forget_cluster("default")
    assert not rt.forget_cluster("default")


def test_the_file_is_private_whole_and_checked(state):
    path = write_cluster(cluster_file())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert rt.read_cluster() == cluster_file()
    assert TOKEN not in repr(rt.read_cluster())
    assert [p.name for p in state.iterdir()] == ["default.json"]
    path.write_text(path.read_text()[:40])
    with pytest.raises(rt.AttachError, match="is no cluster's file"):
        rt.attach()
    path.write_text(json.dumps({"address": 3}))
    with pytest.raises(rt.AttachError, match="is no cluster's file"):
        rt.attach()


def test_what_listens_is_no_controller():
    server, where = listening(
        lambda sock: (sock.sendall(b"HTTP/1.1 400\r\n\r\n" * 9), sock.close())
    )
    with server, pytest.raises(rt.AttachError, match="is no controller of byways"):
        rt.attach(where, token="x")
    kept = []
    server, where = listening(kept.append)
    with server, pytest.raises(rt.AttachError, match=r"it said nothing for 0.2 s"):
        rt.attach(where, token="x", patience=0.2)


# Programs that cannot be.


def test_errors_of_nodes_come_back_with_where_they_were_raised(client, part):
    def refuse(x):
        def look(x):
            raise ZeroDivisionError("on purpose")

        return jax.pure_callback(look, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    node = rt.computation(refuse, part, name="node")
    after = rt.computation(lambda x: x + 1, part, name="after")
    program = rt.program(lambda x: after(node(x)), name="program")
    out = program(jnp.ones(3))
    with pytest.raises(rt.NodeError, match="on purpose") as caught:
        out.result()
    assert (caught.value.program, caught.value.node) == ("program", "node")
    assert "It was raised by the controller" in "".join(caught.value.__notes__)
    assert caught.value.__cause__ is not None
    with pytest.raises(rt.NodeError, match="on purpose"):
        after(out).result()
    assert out.done()
    assert after(jnp.ones(1)).result().tolist() == [2]


def test_programs_that_do_not_fit_are_told_here(client, part):
    add = rt.computation(lambda x, y: x + y, part, name="add")
    with pytest.raises(rt.ProgramError, match=r"node 'add'.*does not take inputs"):
        add(jnp.ones(2), jnp.ones(3))
    with pytest.raises(rt.ProgramError, match="whose controller alone knows its devices"):
        part.devices  # noqa: B018
    with pytest.raises(rt.ProgramError, match="recording and mapping"), rt.recording(client):
        pass
    with pytest.raises(rt.SliceError, match="no island 'nowhere'"):
        client.virtual_devices("nowhere").add_slice(1)
    with pytest.raises(rt.SliceError, match="ask for fewer"):
        client.virtual_devices().add_slice(99)


def test_what_cannot_travel(client, part, system):
    lock = threading.Lock()

    def locked(x):
        with lock:
            return x

    with pytest.raises(rt.ProgramError, match=r"cannot go to the controller .*cannot pickle.*lock"):
        rt.computation(locked, part)(jnp.ones(2))
    own = system.virtual_devices().add_slice(1)
    mixed = rt.program(
        lambda x: rt.computation(lambda x: x, part)(rt.computation(lambda x: x, own)(x))
    )
    with pytest.raises(rt.ProgramError, match="slices of two runtimes"):
        mixed(jnp.ones(2))
    value = part.put(np.ones(2))
    add = rt.computation(lambda x, y: x + y, part)
    with pytest.raises(rt.ProgramError, match="pass it as an argument"):
        rt.program(lambda x: add(x, value))(jnp.ones(2))
    with pytest.raises(rt.ProgramError, match="is a future: pass it as an argument"):
        rt.program(lambda x: add(x, x) if value is not None else x)(jnp.ones(2))

    class Bank:
        def fetch(self, branches):
            return []

    switch = rt.Switch(lambda w, x: x @ w, part, jax.ShapeDtypeStruct((2, 2), jnp.float32), 1)
    given = np.array([1]), np.ones((1, 2), np.float32)
    words = r"give the branches' parameters as Branches, of what slice.put\(…\) gave"
    with pytest.raises(rt.ProgramError, match=f"{words}$"):
        switch(*given, Bank())
    with pytest.raises(rt.ProgramError, match=r"ResidentBranches\(0\) fetches .* \(RayRuntime\)"):
        switch(*given, rt.ResidentBranches(None, 0))
    with pytest.raises(rt.ProgramError, match="whose controller alone knows its devices"):
        part.sharding()


def test_a_function_that_changes(client, part):
    double = rt.computation(lambda x: x * 2, part)
    seen = []

    def changing(x):
        import builtins

        builtins.__dict__.setdefault("_byways_test", []).append(1)
        first = len(builtins.__dict__["_byways_test"]) == 1
        return double(x) if first else (double(x), double(x))

    out = rt.program(changing)(jnp.ones(2))
    with pytest.raises(rt.ProgramError, match="it must not depend on anything that changes"):
        out.result()
    assert not seen


# Names and handles.


def test_names_that_exist_and_that_do_not(client, part):
    assert dict(client.names) == {}
    with pytest.raises(rt.NameUnknown, match="no value is named 'w': nothing has one yet"):
        client.names["w"]
    client.names["w"] = part.put(np.ones(2))
    with pytest.raises(rt.NameTaken, match=r"system.names.replace\('w', …\) puts another"):
        client.names["w"] = part.put(np.ones(2))
    with pytest.raises(rt.NameUnknown, match=r"there are \['w'\]"):
        del client.names["v"]
    del client.names["w"]
    with pytest.raises(rt.NameUnknown, match="no program is named 'step'"):
        client.programs["step"]
    with pytest.raises(rt.ProgramError, match="only programs have names here"):
        client.programs["step"] = lambda x: x
    step = rt.program(lambda x: rt.computation(lambda x: x, part)(x))
    client.programs["step"] = step
    with pytest.raises(rt.NameTaken, match=r"system.programs.replace"):
        client.programs["step"] = step


def test_a_value_that_failed_has_no_name(client, part):
    def refuse(x):
        raise ZeroDivisionError("when it runs")

    node = rt.computation(
        lambda x: jax.pure_callback(refuse, jax.ShapeDtypeStruct(x.shape, x.dtype), x), part
    )
    out = node(jnp.ones(2))
    with pytest.raises(rt.NodeError):
        out.result()
    with pytest.raises(rt.NodeError, match="when it runs"):
        client.names["bad"] = out
    assert "bad" not in client.names


def test_expired_handles(client, part, controller):
    out = part.put(np.ones(2))
    add = rt.computation(lambda x: x + 1, part, name="add", donate=(0,))
    kept = add(out)
    with pytest.raises(rt.ValueReleased, match="donated"):
        out.result()
    kept.release()
    with pytest.raises(rt.ValueReleased, match="after it was gone: it was released"):
        kept.result()
    with pytest.raises(rt.ValueReleased, match="after it was gone"):
        add(kept)
    other = client_of(controller)
    there = other.virtual_devices().add_slice(1).put(np.ones(2))
    other.close()
    with pytest.raises(rt.ValueReleased, match="has left: attach again to go on"):
        there.result()
    with pytest.raises(rt.ValueReleased, match="of client"):
        add(there)
    other.close()


# The other end is not there.


def test_the_controller_is_taken_down(system):
    controller = rt.Controller(system, TOKEN)
    client = client_of(controller)
    part = client.virtual_devices().add_slice(1)
    value = part.put(np.ones(2))
    controller.close()
    with pytest.raises(rt.ControllerGone, match="was taken down"):
        value.result()
    with pytest.raises(rt.ControllerGone, match="was taken down"):
        client.names["w"] = value
    assert "left" in repr(client)


def test_who_waits_is_woken_when_the_controller_dies(controller):
    client = client_of(controller)
    failed = []

    def wait():
        try:
            client.exchange.ask("compile", 5)
        except rt.ControllerGone as error:
            failed.append(error)

    session = controller.sessions[0]
    entered, go = threading.Event(), threading.Event()
    session._answers.ask_compile = lambda *_: (entered.set(), go.wait(20))
    thread = threading.Thread(target=wait)
    thread.start()
    assert entered.wait(20)
    session.line.close()
    thread.join(20)
    go.set()
    assert failed
    left(controller)


def test_a_call_that_is_none_ends_the_line(controller):
    client = client_of(controller)
    client.exchange.tell("call", 1, [], {}, 1)  # of no plan
    left(controller)
