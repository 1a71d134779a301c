"""Real crashes, as the runtimes of eight languages print them: each is one record, and an error."""

from __future__ import annotations

import pytest

from rollbackd.logs.formats import Folder, LineReader
from rollbackd.logs.levels import SERIOUS
from rollbackd.logs.sieve import Sieve

PYTHON = """\
2026-11-24 13:00:00,123 ERROR shop.cart order failed
Traceback (most recent call last):
  File "/app/cart.py", line 10, in buy
    stock.take(item)
KeyError: 'socks'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/cart.py", line 12, in buy
    raise OutOfStock(item) from None
shop.errors.OutOfStock: socks"""

PYTHON_GROUP = """\
Traceback (most recent call last):
  + Exception Group Traceback (most recent call last):
  |   File "/app/x.py", line 3, in <module>
  | ExceptionGroup: two failed (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: one
    +------------------------------------"""

JAVA = """\
13:00:00.123 [main] ERROR c.s.Cart - order failed
java.lang.IllegalStateException: no stock
\tat com.shop.Cart.buy(Cart.java:10) ~[cart.jar:na]
\tat com.shop.Main.main(Main.java:3)
\tSuppressed: java.io.IOException: closed
\t\tat com.shop.Cart.close(Cart.java:20)
Caused by: java.io.IOException: gone
\t... 12 common frames omitted"""

JAVA_UNCAUGHT = """\
Exception in thread "main" java.lang.NullPointerException: Cannot invoke "String.length()" because "<local1>" is null
\tat com.shop.Main.main(Main.java:5)"""

GO = """\
panic: runtime error: index out of range [5] with length 3

goroutine 1 [running]:
main.buy(0x5, {0xc0000140a8, 0x3, 0x3})
\t/app/main.go:8 +0x1d
main.main()
\t/app/main.go:12 +0x20

goroutine 18 [chan receive, 2 minutes]:
net/http.(*persistConn).writeLoop(0xc0001b2000)
\t/usr/local/go/src/net/http/transport.go:2410 +0xf2
created by net/http.(*Transport).dialConn in goroutine 17
\t/usr/local/go/src/net/http/transport.go:1766 +0x173d
exit status 2"""

GO_SEGFAULT = """\
panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x47b2a6]

goroutine 1 [running]:
main.main()
\t/app/main.go:7 +0x6"""

GO_SERVER = """\
2026/11/24 13:00:00 http: panic serving 127.0.0.1:51234: boom
goroutine 7 [running]:
net/http.(*conn).serve.func1()
\t/usr/local/go/src/net/http/server.go:1898 +0xbe
panic({0x646f20?, 0x6fd8b0?})
\t/usr/local/go/src/runtime/panic.go:770 +0x132"""

NODE = """\
Error: connect ECONNREFUSED 127.0.0.1:5432
    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1595:16)
    at process.processTicksAndRejections (node:internal/process/task_queues:95:5) {
  errno: -111,
  code: 'ECONNREFUSED',
  [cause]: Error: inner
      at /app/x.js:3:9
}"""

DOTNET = """\
Unhandled exception. System.InvalidOperationException: no stock
 ---> System.IO.IOException: gone
   at Shop.Cart.Take() in /src/Cart.cs:line 5
   --- End of inner exception stack trace ---
   at Shop.Cart.Buy() in /src/Cart.cs:line 9
--- End of stack trace from previous location ---
   at Shop.Program.Main(String[] args) in /src/Program.cs:line 3"""

ASP_NET = """\
fail: Microsoft.AspNetCore.Diagnostics.ExceptionHandlerMiddleware[1]
      An unhandled exception has occurred while executing the request.
      System.InvalidOperationException: no stock
         at Shop.Cart.Buy() in /src/Cart.cs:line 9"""

RUBY = """\
/app/cart.rb:3:in `buy': no stock (RuntimeError)
\tfrom /app/cart.rb:6:in `<main>'"""

RAILS = """\
F, [2026-11-24T13:00:00.123456 #7] FATAL -- : RuntimeError (no stock):
app/models/cart.rb:3:in `buy'
app/controllers/carts_controller.rb:12:in `create'"""

RUST = """\
thread 'main' panicked at src/main.rs:2:5:
index out of bounds: the len is 3 but the index is 5
stack backtrace:
   0: rust_begin_unwind
             at /rustc/library/std/src/panicking.rs:645:5
   1: core::panicking::panic_fmt
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace."""

PHP = """\
PHP Fatal error:  Uncaught Exception: no stock in /app/cart.php:3
Stack trace:
#0 /app/cart.php(6): buy()
#1 {main}
  thrown in /app/cart.php on line 3"""

LARAVEL = """\
[2026-11-24 13:00:00] production.ERROR: none {"exception":"[object] (Exception(code: 0): no stock at /app/c.php:3)
[stacktrace]
#0 /app/cart.php(6): buy()
#1 {main}
"}"""

TRACES = {
    "python": PYTHON, "python group": PYTHON_GROUP, "java": JAVA, "java uncaught": JAVA_UNCAUGHT, "go": GO,
    "go segfault": GO_SEGFAULT, "go server": GO_SERVER, "node": NODE, "dotnet": DOTNET, "asp.net": ASP_NET,
    "ruby": RUBY, "rails": RAILS, "rust": RUST, "php": PHP, "laravel": LARAVEL,
}  # fmt: skip


@pytest.mark.parametrize("name", TRACES)
def test_a_crash_is_one_error_with_all_its_lines(name: str) -> None:
    trace = TRACES[name]
    folder = Folder(LineReader(), 64 * 1024)
    lines = ["INFO before", *trace.split("\n"), "INFO after", "ERROR another", "INFO end"]
    records = [record for record in (*map(folder.take, lines), folder.flush()) if record is not None]
    assert [record.level in ("error", "critical") for record in records] == [False, True, False, True, False]
    assert records[1].message == "\n".join(line for line in trace.split("\n") if line)


@pytest.mark.parametrize("name", TRACES)
def test_the_fast_road_folds_it_alike(name: str) -> None:
    trace = TRACES[name]
    sieve = Sieve(LineReader(), 64 * 1024)
    records = sieve.feed(f"INFO before\n{trace}\nINFO after\nERROR another\n".encode()) + sieve.flush()
    told = [record.message for record in records if record.level in SERIOUS]
    assert told == ["\n".join(line for line in trace.split("\n") if line), "ERROR another"]


@pytest.mark.parametrize(
    "lines",
    [
        ("ERROR one", "TypeError: x is not a function", "ERROR two"),
        ("ValueError: one", "TypeError: two"),
        ("ERROR one", " INFO padded", "ERROR two"),
        ("WARN slow", "shop.errors.OutOfStock: socks"),
    ],
)
def test_what_begins_a_record_of_its_own_is_no_trace(lines: tuple[str, ...]) -> None:
    folder = Folder(LineReader(), 64 * 1024)
    records = [record for record in (*map(folder.take, lines), folder.flush()) if record is not None]
    assert len(records) >= 2
