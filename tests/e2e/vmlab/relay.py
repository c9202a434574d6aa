# SPDX-License-Identifier: Apache-2.0
"""A way over the network that can be cut: connections to a port of its own lead to another one."""

import selectors
import socket
import threading


class Relay:
    """freeze(): connections stay, and nothing comes through them; cut(): they end, and new ones do;
    open(): it goes on."""

    def __init__(self, port):
        self.target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._peers = {}
        self._state = "open"
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ, self._obey)
        threading.Thread(target=self._run, daemon=True).start()

    def _say(self, state):
        self._state = state
        self._waker.send(b"x")

    def open(self):
        self._say("open")

    def freeze(self):
        self._say("frozen")

    def cut(self):
        self._say("cut")

    def _run(self):
        while True:
            if self._state == "frozen":
                self._woken.recv(64)
                continue
            for key, _ in self._selector.select():
                if key.fileobj.fileno() >= 0:
                    key.data(key.fileobj)

    def _obey(self, woken):
        woken.recv(64)
        while self._state == "cut" and self._peers:
            self._drop(next(iter(self._peers)))

    def _accept(self, listener):
        client, _ = listener.accept()
        if self._state == "cut":
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self.target), 5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        self._peers[client], self._peers[server] = server, client
        for end in (client, server):
            self._selector.register(end, selectors.EVENT_READ, self._hand_on)

    def _drop(self, end):
        for one in (end, self._peers.pop(end)):
            self._peers.pop(one, None)
            self._selector.unregister(one)
            one.close()

    def _hand_on(self, end):
        try:
            data = end.recv(65536)
            if data:
                self._peers[end].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(end)
