// links: headgate_deliver OpenSSL::SSL
#include <openssl/ssl.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/hmac.h"
#include "common/limits.h"
#include "lua-free-tests/certificate.h"
#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/loopback_server.h"
#include "sidecar/deliver/http_client.h"

using namespace headgate;
using Connection = LoopbackServer::Connection;

namespace {

const auto kLoopback = std::make_shared<const std::vector<std::string>>(std::vector<std::string>{"127.0.0.0/8"});

TargetGuard loopback_guard() {
    TargetGuardOptions options;
    options.allow_networks = {parse_network("127.0.0.0/8").value(), parse_network("::1").value()};
    return TargetGuard(std::move(options));
}

// A client with the loop that its answers come back on.
struct Fixture {
    boost::asio::io_context loop;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard = make_work_guard(loop);
    HttpClient client;

    explicit Fixture(HttpClientOptions options = {})
        : client(loop.get_executor(), loopback_guard(), std::move(options)) {}

    // Runs the loop until `count` is reached; false after 30 s.
    bool wait_for(const std::size_t& count, std::size_t wanted) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (count < wanted && std::chrono::steady_clock::now() < deadline) {
            loop.run_one_until(deadline);
        }
        return count >= wanted;
    }
    HttpResponse fetch(HttpRequest request) {
        HttpResponse result;
        std::size_t done = 0;
        client.submit(std::move(request), [&](HttpResponse response) {
            result = std::move(response);
            ++done;
        });
        if (!wait_for(done, 1)) {
            result.message = "no answer at all";
            result.status = -1;
        }
        return result;
    }
};

HttpRequest request_to(std::string url, std::int64_t timeout_ms = 10'000) {
    HttpRequest request;
    request.url = std::move(url);
    request.body = std::make_shared<const std::string>("{\"a\":1}");
    request.timeout_ms = timeout_ms;
    request.org_networks = kLoopback;
    request.headers.add("Content-Type", "application/json");
    return request;
}

// What the client makes of a server that does this with its first request.
HttpResponse against(const std::function<void(Connection&)>& behaviour, std::int64_t timeout_ms = 10'000) {
    LoopbackServer server([&](Connection& connection) {
        if (connection.read_request()) {
            behaviour(connection);
        }
    });
    Fixture fixture;
    return fixture.fetch(request_to(server.url(), timeout_ms));
}

void expect_failure(const HttpResponse& response, HttpFailure wanted) {
    if (response.failure != wanted) {
        print_error("failure=%s status=%d message=%s\n", std::string(failure_name(response.failure)).c_str(),
                    response.status, response.message.c_str());
    }
    assert_int_equal(response.failure, wanted);
}

// ---- what works -----------------------------------------------------------------------------

void test_post_sends_bytes_and_reads_response(void**) {
    std::string head;
    std::string body;
    LoopbackServer server([&](Connection& connection) {
        if (const auto request = connection.read_request()) {
            head = request->head;
            body = request->body;
            connection.respond(201, "hello", "X-A: 1\r\nX-A: 2\r\n");
        }
    });
    HttpResponse response;
    {
        Fixture fixture;
        HttpRequest request = request_to(server.url("/a/../b?x=%20y"));
        request.headers.add("X-Empty", "");
        request.headers.add("X-Webhook-Event", "order.created");
        response = fixture.fetch(std::move(request));
    }
    expect_failure(response, HttpFailure::kNone);
    assert_int_equal(response.status, 201);
    assert_string_equal(response.body.c_str(), "hello");
    assert_string_equal(headers_json(response.headers).c_str(), R"({"Content-Length":"5","X-A":"1, 2"})");
    assert_true(head.starts_with("POST /a/../b?x=%20y HTTP/1.1\r\n"));
    assert_true(head.find("\r\nX-Empty:\r\n") != std::string::npos);
    assert_true(head.find("\r\nX-Webhook-Event: order.created\r\n") != std::string::npos);
    assert_true(head.find("\r\nContent-Type: application/json\r\n") != std::string::npos);
    assert_true(head.find("Expect") == std::string::npos);
    assert_string_equal(body.c_str(), "{\"a\":1}");
}

void test_large_body_is_sent_without_expect(void**) {
    std::string head;
    std::size_t body_bytes = 0;
    LoopbackServer server([&](Connection& connection) {
        if (const auto request = connection.read_request()) {
            head = request->head;
            body_bytes = request->body.size();
            connection.respond(200);
        }
    });
    Fixture fixture;
    HttpRequest request = request_to(server.url());
    request.body = std::make_shared<const std::string>(3 * 1024 * 1024, 'x');
    const HttpResponse response = fixture.fetch(std::move(request));
    expect_failure(response, HttpFailure::kNone);
    assert_int_equal(body_bytes, 3 * 1024 * 1024);
    assert_true(head.find("Expect") == std::string::npos);
}

void test_get_without_body_and_await(void**) {
    std::string head;
    LoopbackServer server([&](Connection& connection) {
        if (const auto request = connection.read_request()) {
            head = request->head;
            connection.respond(200, "x");
        }
    });
    Fixture fixture;
    HttpRequest request = request_to(server.url());
    request.body = nullptr;
    HttpResponse response;
    std::size_t done = 0;
    boost::asio::co_spawn(fixture.loop, fixture.client.send(std::move(request)),
                          [&](const std::exception_ptr&, HttpResponse result) {
                              response = std::move(result);
                              ++done;
                          });
    assert_true(fixture.wait_for(done, 1));
    assert_int_equal(response.status, 200);
    assert_true(head.starts_with("GET / HTTP/1.1\r\n"));
}

void test_connection_is_kept_and_many_run_at_once(void**) {
    LoopbackServer server(LoopbackServer::answering(204));
    Fixture fixture;
    for (int i = 0; i < 20; ++i) {
        assert_int_equal(fixture.fetch(request_to(server.url())).status, 204);
    }
    assert_int_equal(server.connections(), 1);
    std::size_t done = 0;
    std::size_t good = 0;
    for (int i = 0; i < 500; ++i) {
        fixture.client.submit(request_to(server.url()), [&](HttpResponse response) {
            good += response.status == 204 ? 1 : 0;
            ++done;
        });
    }
    assert_true(fixture.wait_for(done, 500));
    assert_int_equal(good, 500);
}

// ---- servers that misbehave -----------------------------------------------------------------

void test_silent_server_times_out(void**) {
    expect_failure(against([](Connection& connection) { connection.wait_until_gone(); }, 200), HttpFailure::kTimeout);
}

// The total time is capped, not only that of the headers.
void test_trickling_body_times_out(void**) {
    const HttpResponse response = against(
        [](Connection& connection) {
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
            while (connection.write("x")) {
                std::this_thread::sleep_for(std::chrono::milliseconds(5));
            }
        },
        300);
    expect_failure(response, HttpFailure::kTimeout);
    assert_int_equal(response.status, 200);
}

void test_trickling_headers_time_out(void**) {
    expect_failure(against(
                       [](Connection& connection) {
                           connection.write("HTTP/1.1 200 OK\r\n");
                           while (connection.write("X-A: 1\r\n")) {
                               std::this_thread::sleep_for(std::chrono::milliseconds(5));
                           }
                       },
                       300),
                   HttpFailure::kTimeout);
}

// Of a 2xx it is the status that counts: what comes after the bound is not read, and the connection is closed.
void test_endless_body_is_cut(void**) {
    const auto answer = [](std::string_view status) {
        return against([status](Connection& connection) {
            connection.write("HTTP/1.1 " + std::string(status) + "\r\n\r\n");
            const std::string block(16'384, 'x');
            while (connection.write(block)) {
            }
        });
    };
    const HttpResponse accepted = answer("200 OK");
    expect_failure(accepted, HttpFailure::kNone);
    assert_int_equal(accepted.status, 200);
    assert_int_equal(accepted.body.size(), limits::kResponseKeptBytesMax);
    const HttpResponse refused = answer("500 Internal Server Error");
    expect_failure(refused, HttpFailure::kResponseTooLarge);
    assert_int_equal(refused.status, 500);
    assert_int_equal(refused.body.size(), limits::kResponseKeptBytesMax);
}

void test_body_of_exactly_the_limit_is_read(void**) {
    const auto answer = [](std::size_t bytes) {
        return against([bytes](Connection& connection) { connection.respond(500, std::string(bytes, 'x')); });
    };
    const HttpResponse at_limit = answer(limits::kResponseReadBytesMax);
    expect_failure(at_limit, HttpFailure::kNone);
    assert_int_equal(at_limit.body.size(), limits::kResponseKeptBytesMax);
    expect_failure(answer(limits::kResponseReadBytesMax + 1), HttpFailure::kResponseTooLarge);
}

std::string little_endian(std::uint32_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) {
        text += static_cast<char>(value >> (8 * i) & 0xff);
    }
    return text;
}

constexpr std::string_view kGzipHead("\x1f\x8b\x08\0\0\0\0\0\0\x03", 10);

void test_gzip_response_is_decoded(void**) {
    const std::string text = "compressed, or nearly";  // one stored block (RFC 1951, 3.2.4)
    const auto length = static_cast<std::uint32_t>(text.size());
    const std::string gzip = std::string(kGzipHead) + '\x01' + little_endian(length, 2) +
                             little_endian(~length & 0xffff, 2) + text + little_endian(crc32(text), 4) +
                             little_endian(length, 4);
    const HttpResponse response =
        against([&](Connection& connection) { connection.respond(200, gzip, "Content-Encoding: gzip\r\n"); });
    expect_failure(response, HttpFailure::kNone);
    assert_string_equal(response.body.c_str(), text.c_str());
}

// Fixed Huffman codes (RFC 1951, 3.2.6): a zero byte, then "258 bytes from one back" for ever: 13 bits
// make 258 bytes.
std::string gzip_bomb(std::size_t runs) {
    std::string bytes(kGzipHead);
    unsigned pending = 0;
    int pending_bits = 0;
    const auto put = [&](std::string_view bits) {
        for (const char bit : bits) {
            pending |= static_cast<unsigned>(bit - '0') << pending_bits;
            if (++pending_bits == 8) {
                bytes += static_cast<char>(pending);
                pending = 0;
                pending_bits = 0;
            }
        }
    };
    put("110");       // final block, fixed codes
    put("00110000");  // literal 0
    for (std::size_t i = 0; i < runs; ++i) {
        put("1100010100000");  // length 258, distance 1
    }
    return bytes;
}

void test_gzip_bomb_is_cut_at_its_inflated_size(void**) {
    const std::string bomb = gzip_bomb(200'000);  // 325 kB that would make 51 MB
    const HttpResponse response =
        against([&](Connection& connection) { connection.respond(200, bomb, "Content-Encoding: gzip\r\n"); });
    expect_failure(response, HttpFailure::kNone);
    assert_int_equal(response.body.size(), limits::kResponseKeptBytesMax);
    expect_failure(
        against([&](Connection& connection) { connection.respond(503, bomb, "Content-Encoding: gzip\r\n"); }),
        HttpFailure::kResponseTooLarge);
}

// The endpoint has answered, however it names the encoding of what it says besides.
void test_body_that_cannot_be_decoded_leaves_the_status(void**) {
    for (const std::string_view encoding : {"UTF-8", "gzip", "deflate", "rot13", "br"}) {
        for (const int status : {200, 202, 410, 500}) {
            const std::string header = "Content-Encoding: " + std::string(encoding) + "\r\nRetry-After: 7\r\n";
            const HttpResponse response =
                against([&](Connection& connection) { connection.respond(status, "plain words", header); });
            expect_failure(response, HttpFailure::kNone);
            assert_int_equal(response.status, status);
            assert_string_equal(std::string(find_header(response.headers, "retry-after")).c_str(), "7");
        }
    }
    // A stream that breaks leaves what came before.
    const std::string text = "so far, so good";
    const auto length = static_cast<std::uint32_t>(text.size());
    const std::string broken = std::string(kGzipHead) + '\0' + little_endian(length, 2) +
                               little_endian(~length & 0xffff, 2) + text + "\xff\xff\xff\xff\xff\xff";
    const HttpResponse response =
        against([&](Connection& connection) { connection.respond(200, broken, "Content-Encoding: gzip\r\n"); });
    expect_failure(response, HttpFailure::kNone);
    assert_int_equal(response.status, 200);
    assert_true(response.body.empty() || response.body == text);
}

// gzip in gzip: the inner one is the bomb.
void test_nested_gzip_bomb_is_cut(void**) {
    const std::string inner = gzip_bomb(40'000);
    std::string outer(kGzipHead);
    for (std::size_t at = 0; at < inner.size(); at += 60'000) {
        const std::string block = inner.substr(at, 60'000);
        const auto length = static_cast<std::uint32_t>(block.size());
        outer += at + 60'000 >= inner.size() ? '\x01' : '\0';
        outer += little_endian(length, 2) + little_endian(~length & 0xffff, 2) + block;
    }
    outer += little_endian(crc32(inner), 4) + little_endian(static_cast<std::uint32_t>(inner.size()), 4);
    const HttpResponse response =
        against([&](Connection& connection) { connection.respond(200, outer, "Content-Encoding: gzip, gzip\r\n"); });
    expect_failure(response, HttpFailure::kNone);
    assert_true(response.body.size() <= limits::kResponseKeptBytesMax);
    // More layers than anyone means are not unwrapped.
    std::string layers = "Content-Encoding: gzip";
    for (int i = 0; i < 100; ++i) {
        layers += ", gzip";
    }
    const HttpResponse wrapped =
        against([&](Connection& connection) { connection.respond(200, inner, layers + "\r\n"); });
    expect_failure(wrapped, HttpFailure::kNone);
    assert_int_equal(wrapped.status, 200);
    assert_true(wrapped.body.empty());
}

// Empty stored blocks inflate to nothing, however many come.
void test_gzip_that_inflates_to_nothing_is_cut(void**) {
    const HttpResponse response = against([](Connection& connection) {
        connection.write("HTTP/1.1 503 Service Unavailable\r\nContent-Encoding: gzip\r\n\r\n");
        connection.write(kGzipHead);
        std::string blocks;
        for (int i = 0; i < 1000; ++i) {
            blocks.append("\0\0\0\xff\xff", 5);
        }
        while (connection.write(blocks)) {
        }
    });
    expect_failure(response, HttpFailure::kResponseTooLarge);
}

void test_too_many_header_bytes_are_cut(void**) {
    const HttpResponse many = against([](Connection& connection) {
        std::string headers = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
        for (int i = 0; i < 10'000; ++i) {
            headers += "X-" + std::to_string(i) + ": y\r\n";
        }
        connection.write(headers + "\r\n");
    });
    expect_failure(many, HttpFailure::kResponseTooLarge);
    assert_true(many.headers.size() <= limits::kResponseHeaderBytesMax);
    const HttpResponse one_line = against([](Connection& connection) {
        connection.write("HTTP/1.1 200 OK\r\nX-A: ");
        const std::string block(16'384, 'x');
        while (connection.write(block)) {
        }
    });
    expect_failure(one_line, HttpFailure::kResponseTooLarge);
    const HttpResponse interim = against([](Connection& connection) {
        while (connection.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")) {
        }
    });
    expect_failure(interim, HttpFailure::kResponseTooLarge);
}

void test_interim_response_is_not_the_answer(void**) {
    const HttpResponse response = against([](Connection& connection) {
        connection.write("HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\n");
        connection.respond(200, "x");
    });
    expect_failure(response, HttpFailure::kNone);
    assert_int_equal(response.status, 200);
    assert_true(find_header(response.headers, "X-Interim").empty());
}

void test_redirect_is_not_followed(void**) {
    LoopbackServer elsewhere(LoopbackServer::answering(200));
    const std::string location = "Location: " + elsewhere.url() + "\r\n";
    for (const int status : {301, 302, 303, 307, 308}) {
        const HttpResponse response =
            against([&](Connection& connection) { connection.respond(status, "", location); });
        expect_failure(response, HttpFailure::kNone);
        assert_int_equal(response.status, status);
    }
    assert_int_equal(elsewhere.connections(), 0);
}

// The 200 that a redirect leads to, on the same host and the same connection, does not count.
void test_success_behind_a_redirect_does_not_count(void**) {
    std::vector<std::string> heads;
    LoopbackServer server([&](Connection& connection) {
        while (const auto request = connection.read_request()) {
            heads.push_back(request->head);
            connection.respond(heads.size() == 1 ? 302 : 200, "", "Location: /next\r\nRefresh: 0; url=/next\r\n");
        }
    });
    HttpResponse response;
    {
        Fixture fixture;
        response = fixture.fetch(request_to(server.url()));
    }
    expect_failure(response, HttpFailure::kNone);
    assert_int_equal(response.status, 302);
    assert_int_equal(server.connections(), 1);
}

void test_broken_connections(void**) {
    expect_failure(against([](Connection& connection) { connection.reset(); }), HttpFailure::kConnection);
    expect_failure(against([](Connection&) {}), HttpFailure::kConnection);
    expect_failure(against([](Connection& connection) { connection.write("SSH-2.0-OpenSSH_9.2\r\n"); }),
                   HttpFailure::kConnection);
    expect_failure(
        against([](Connection& connection) { connection.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"); }),
        HttpFailure::kConnection);
    std::string refused;
    {
        LoopbackServer gone([](Connection&) {});
        refused = gone.url();
    }
    Fixture fixture;
    expect_failure(fixture.fetch(request_to(refused)), HttpFailure::kConnection);
}

// A connection that the server closed while it was idle is not an error of the next request.
void test_kept_connection_closed_by_server_is_replaced(void**) {
    LoopbackServer server([](Connection& connection) {
        if (connection.read_request()) {
            connection.respond(200);
        }
    });
    Fixture fixture;
    for (int i = 0; i < 5; ++i) {
        assert_int_equal(fixture.fetch(request_to(server.url())).status, 200);
    }
    assert_int_equal(server.connections(), 5);
}

// ---- the guard ------------------------------------------------------------------------------

void test_blocked_address_opens_no_connection(void**) {
    LoopbackServer server(LoopbackServer::answering(200));
    Fixture fixture;
    HttpRequest request = request_to(server.url());
    request.org_networks = nullptr;
    const HttpResponse response = fixture.fetch(std::move(request));
    expect_failure(response, HttpFailure::kBlockedAddress);
    assert_true(response.message.find("loopback") != std::string::npos);
    // Resolved names are checked like literal ones.
    HttpRequest named = request_to(server.url("/", "http", "localhost"));
    named.org_networks = nullptr;
    expect_failure(fixture.fetch(std::move(named)), HttpFailure::kBlockedAddress);
    assert_int_equal(server.connections(), 0);
}

void test_bad_url_is_not_sent(void**) {
    LoopbackServer server(LoopbackServer::answering(200));
    Fixture fixture;
    for (const std::string_view host : {"2130706433", "0x7f000001", "127.1", "user@127.0.0.1", "127.0.0.1."}) {
        expect_failure(fixture.fetch(request_to(server.url("/", "http", host))), HttpFailure::kBlockedAddress);
    }
    expect_failure(fixture.fetch(request_to("file:///etc/passwd")), HttpFailure::kBlockedAddress);
    assert_int_equal(server.connections(), 0);
}

// DNS that answers with several addresses, one of them refused: that one is passed over, in whatever order.
void test_name_with_several_addresses_reaches_only_the_allowed(void**) {
    LoopbackServer server(LoopbackServer::answering(200));
    const std::string port = std::to_string(server.port());
    HttpClientOptions options;
    options.resolve = {"mixed.example:" + port + ":10.0.0.1,127.0.0.1,169.254.169.254",
                       "private.example:" + port + ":10.0.0.1,127.0.0.1"};
    Fixture fixture(options);
    const HttpResponse mixed = fixture.fetch(request_to(server.url("/", "http", "mixed.example")));
    expect_failure(mixed, HttpFailure::kNone);
    assert_int_equal(mixed.status, 200);
    HttpRequest foreign = request_to(server.url("/", "http", "private.example"));
    foreign.org_networks = nullptr;
    expect_failure(fixture.fetch(std::move(foreign)), HttpFailure::kBlockedAddress);
    assert_int_equal(server.connections(), 1);
    // Refused on the connection that another organization keeps open to this name, and on one of its own.
    HttpRequest reusing = request_to(server.url("/", "http", "mixed.example"));
    reusing.org_networks = nullptr;
    expect_failure(fixture.fetch(std::move(reusing)), HttpFailure::kBlockedAddress);
    assert_int_equal(server.connections(), 1);
}

// A kept connection to an address that this organization may not reach does not keep it from the
// address of the same name that it may.
void test_name_with_refused_kept_connection_gets_its_own(void**) {
    LoopbackServer first(LoopbackServer::answering(200));
    LoopbackServer second(LoopbackServer::answering(204), INADDR_LOOPBACK + 1, first.port());
    HttpClientOptions options;
    options.resolve = {"two.example:" + std::to_string(first.port()) + ":127.0.0.1,127.0.0.2"};
    Fixture fixture(options);
    assert_int_equal(fixture.fetch(request_to(first.url("/", "http", "two.example"))).status, 200);
    HttpRequest other = request_to(first.url("/", "http", "two.example"));
    other.org_networks = std::make_shared<const std::vector<std::string>>(std::vector<std::string>{"127.0.0.2"});
    const HttpResponse response = fixture.fetch(std::move(other));
    expect_failure(response, HttpFailure::kNone);
    assert_int_equal(response.status, 204);
    assert_int_equal(first.connections(), 1);
}

// One organization's open connection must not carry the request of another that may not go there.
void test_reused_connection_is_checked_for_each_request(void**) {
    std::atomic<int> requests{0};
    LoopbackServer server([&](Connection& connection) {
        while (connection.read_request()) {
            ++requests;
            connection.respond(200);
        }
    });
    Fixture fixture;
    assert_int_equal(fixture.fetch(request_to(server.url())).status, 200);
    HttpRequest foreign = request_to(server.url());
    foreign.org_networks = std::make_shared<const std::vector<std::string>>(std::vector<std::string>{"10.0.0.0/8"});
    expect_failure(fixture.fetch(std::move(foreign)), HttpFailure::kBlockedAddress);
    assert_int_equal(requests, 1);
    assert_int_equal(fixture.fetch(request_to(server.url())).status, 200);
    assert_int_equal(requests, 2);
}

void test_proxy_of_the_environment_is_ignored(void**) {
    LoopbackServer proxy(LoopbackServer::answering(200));
    LoopbackServer server(LoopbackServer::answering(204));
    for (const char* name : {"http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"}) {
        setenv(name, proxy.url().c_str(), 1);
    }
    int status = 0;
    HttpFailure blocked = HttpFailure::kNone;
    {
        Fixture fixture;
        status = fixture.fetch(request_to(server.url())).status;
        HttpRequest request = request_to("http://10.255.255.1:8080/");
        blocked = fixture.fetch(std::move(request)).failure;
    }
    for (const char* name : {"http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"}) {
        unsetenv(name);
    }
    assert_int_equal(status, 204);
    assert_int_equal(blocked, HttpFailure::kBlockedAddress);
    assert_int_equal(proxy.connections(), 0);
}

// ---- TLS ------------------------------------------------------------------------------------

// Of this server's thread only: the client must not rely on it.
void block_sigpipe() {
    sigset_t pipe_signal;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, nullptr);
}

LoopbackServer::Handler over_tls(const Certificate& certificate) {
    return [&certificate](Connection& connection) {
        block_sigpipe();
        SSL_CTX* context = SSL_CTX_new(TLS_server_method());
        SSL_CTX_use_certificate(context, certificate.x509);
        SSL_CTX_use_PrivateKey(context, certificate.key);
        SSL* ssl = SSL_new(context);
        SSL_set_fd(ssl, connection.fd());
        if (SSL_accept(ssl) == 1) {
            char request[4096];
            std::string text;
            int count = 0;
            while (text.find("\r\n\r\n{\"a\":1}") == std::string::npos &&
                   (count = SSL_read(ssl, request, sizeof request)) > 0) {
                text.append(request, static_cast<std::size_t>(count));
            }
            constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            SSL_write(ssl, kAnswer.data(), static_cast<int>(kAnswer.size()));
            SSL_shutdown(ssl);
        }
        SSL_free(ssl);
        SSL_CTX_free(context);
    };
}

void test_tls_certificate_is_verified(void**) {
    const Certificate certificate;
    const std::string path =
        (std::filesystem::temp_directory_path() / ("headgate-ca-" + std::to_string(getpid()) + ".pem")).string();
    certificate.save(path);
    HttpResponse unknown;
    HttpResponse trusted;
    HttpResponse wrong_name;
    HttpResponse not_tls;
    {
        LoopbackServer server(over_tls(certificate));
        LoopbackServer plain([](Connection& connection) { connection.write("HTTP/1.1 200 OK\r\n\r\n"); });
        Fixture strict;
        unknown = strict.fetch(request_to(server.url("/", "https")));
        not_tls = strict.fetch(request_to(plain.url("/", "https")));
        HttpClientOptions options;
        options.ca_file = path;
        Fixture trusting(options);
        trusted = trusting.fetch(request_to(server.url("/", "https")));
        wrong_name = trusting.fetch(request_to(server.url("/", "https", "localhost")));
    }
    std::filesystem::remove(path);
    expect_failure(unknown, HttpFailure::kTls);
    expect_failure(trusted, HttpFailure::kNone);
    assert_int_equal(trusted.status, 200);
    expect_failure(wrong_name, HttpFailure::kTls);
    expect_failure(not_tls, HttpFailure::kTls);
}

// ---- ending ---------------------------------------------------------------------------------

void test_abort_all_interrupts_and_goes_on(void**) {
    LoopbackServer silent([](Connection& connection) { connection.wait_until_gone(); });
    LoopbackServer server(LoopbackServer::answering(200));
    Fixture fixture;
    std::size_t done = 0;
    std::size_t interrupted = 0;
    for (int i = 0; i < 10; ++i) {
        fixture.client.submit(request_to(silent.url()), [&](HttpResponse response) {
            interrupted += response.failure == HttpFailure::kInterrupted ? 1 : 0;
            ++done;
        });
    }
    fixture.client.abort_all();
    assert_true(fixture.wait_for(done, 10));
    assert_int_equal(interrupted, 10);
    assert_int_equal(fixture.fetch(request_to(server.url())).status, 200);
}

void test_destruction_reports_what_was_in_flight(void**) {
    LoopbackServer silent([](Connection& connection) { connection.wait_until_gone(); });
    boost::asio::io_context loop;
    std::size_t interrupted = 0;
    {
        HttpClient client(loop.get_executor(), loopback_guard());
        for (int i = 0; i < 5; ++i) {
            client.submit(request_to(silent.url()), [&](HttpResponse response) {
                interrupted += response.failure == HttpFailure::kInterrupted ? 1 : 0;
            });
        }
    }
    loop.run();
    assert_int_equal(interrupted, 5);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_post_sends_bytes_and_reads_response),
        cmocka_unit_test(test_large_body_is_sent_without_expect),
        cmocka_unit_test(test_get_without_body_and_await),
        cmocka_unit_test(test_connection_is_kept_and_many_run_at_once),
        cmocka_unit_test(test_silent_server_times_out),
        cmocka_unit_test(test_trickling_body_times_out),
        cmocka_unit_test(test_trickling_headers_time_out),
        cmocka_unit_test(test_endless_body_is_cut),
        cmocka_unit_test(test_body_of_exactly_the_limit_is_read),
        cmocka_unit_test(test_gzip_response_is_decoded),
        cmocka_unit_test(test_gzip_bomb_is_cut_at_its_inflated_size),
        cmocka_unit_test(test_body_that_cannot_be_decoded_leaves_the_status),
        cmocka_unit_test(test_nested_gzip_bomb_is_cut),
        cmocka_unit_test(test_gzip_that_inflates_to_nothing_is_cut),
        cmocka_unit_test(test_too_many_header_bytes_are_cut),
        cmocka_unit_test(test_interim_response_is_not_the_answer),
        cmocka_unit_test(test_redirect_is_not_followed),
        cmocka_unit_test(test_success_behind_a_redirect_does_not_count),
        cmocka_unit_test(test_broken_connections),
        cmocka_unit_test(test_kept_connection_closed_by_server_is_replaced),
        cmocka_unit_test(test_blocked_address_opens_no_connection),
        cmocka_unit_test(test_bad_url_is_not_sent),
        cmocka_unit_test(test_name_with_several_addresses_reaches_only_the_allowed),
        cmocka_unit_test(test_name_with_refused_kept_connection_gets_its_own),
        cmocka_unit_test(test_reused_connection_is_checked_for_each_request),
        cmocka_unit_test(test_proxy_of_the_environment_is_ignored),
        cmocka_unit_test(test_tls_certificate_is_verified),
        cmocka_unit_test(test_abort_all_interrupts_and_goes_on),
        cmocka_unit_test(test_destruction_reports_what_was_in_flight),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
