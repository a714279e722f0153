from __future__ import annotations

import threading
import unittest
from http.server import ThreadingHTTPServer
from urllib.error import HTTPError

from adder import client
from adder.service import Handler


class QuietHandler(Handler):
    def log_message(self, *_: object) -> None:
        pass


class ServiceTest(unittest.TestCase):
    def setUp(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), QuietHandler)
        serving = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(serving.join)
        self.addCleanup(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def test_it_is_healthy_and_completes(self) -> None:
        self.assertEqual(client.get_health(self.url), {"status": "ok"})
        self.assertEqual(client.get_completion(self.url, "What is 6 * 7?"), "The answer is 42.")

    def test_an_unknown_page_is_not_found(self) -> None:
        with self.assertRaises(HTTPError) as caught:
            client.get_health(f"{self.url}/elsewhere")
        self.assertEqual(caught.exception.code, 404)
        caught.exception.close()


if __name__ == "__main__":
    unittest.main()
