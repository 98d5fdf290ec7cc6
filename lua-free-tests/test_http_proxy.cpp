// links: headgate_deliver
// A proxy of the configuration takes nothing from the guard; names that resolve to one thing now and to another
// later; look-ups that open nothing.
#include <dlfcn.h>
#include <netdb.h>
#include <poll.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/loopback_server.h"
#include "sidecar/deliver/http_client.h"

using namespace headgate;
using Connection = LoopbackServer::Connection;

namespace {

// What "rebind.test" resolves to: one address for each look-up, the last one for ever.
struct ScriptedDns {
    std::mutex mutex;
    std::vector<std::string> answers;
    std::size_t asked = 0;
} scripted_dns;

void script_dns(std::vector<std::string> answers) {
    const std::lock_guard lock(scripted_dns.mutex);
    scripted_dns.answers = std::move(answers);
    scripted_dns.asked = 0;
}

std::size_t lookups() {
    const std::lock_guard lock(scripted_dns.mutex);
    return scripted_dns.asked;
}

}  // namespace

// In place of the C library's, for libcurl as well.
extern "C" __attribute__((visibility("default"))) int getaddrinfo(const char* node, const char* service,
                                                                  const addrinfo* hints, addrinfo** found) {
    using Function = int (*)(const char*, const char*, const addrinfo*, addrinfo**);
    static const auto kReal = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "getaddrinfo"));
    std::string address;
    if (node != nullptr && std::string_view(node) == "rebind.test") {
        const std::lock_guard lock(scripted_dns.mutex);
        const auto& answers = scripted_dns.answers;
        address = answers.at(std::min(scripted_dns.asked++, answers.size() - 1));
        node = address.c_str();
    }
    return kReal(node, service, hints, found);
}

namespace {

using Networks = std::vector<std::string>;

// A client with the loop that its answers come back on. Loopback, but no other private network, is in the ceiling.
struct Fixture {
    boost::asio::io_context loop;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard = make_work_guard(loop);
    HttpClient client;

    explicit Fixture(HttpClientOptions options) : client(loop.get_executor(), make_guard(), std::move(options)) {}

    static TargetGuard make_guard() {
        TargetGuardOptions options;
        options.allow_networks = {parse_network("127.0.0.0/8").value()};
        return TargetGuard(std::move(options));
    }
    HttpResponse fetch(HttpRequest request) {
        HttpResponse result;
        result.status = -1;
        bool is_done = false;
        client.submit(std::move(request), [&](HttpResponse response) {
            result = std::move(response);
            is_done = true;
        });
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (!is_done && std::chrono::steady_clock::now() < deadline) {
            loop.run_one_until(deadline);
        }
        return result;
    }
};

HttpRequest request_to(std::string url, Networks networks = {"127.0.0.0/8"}) {
    HttpRequest request;
    request.url = std::move(url);
    request.body = std::make_shared<const std::string>("{}");
    request.timeout_ms = 10'000;
    request.org_networks = std::make_shared<const Networks>(std::move(networks));
    request.headers.add("X-Webhook-Signature", "sha256=private");
    return request;
}

std::string host_url(const LoopbackServer& server, std::string_view host) { return server.url("/", "http", host); }

void expect_failure(const HttpResponse& response, HttpFailure wanted) {
    if (response.failure != wanted) {
        print_error("failure=%s status=%d message=%s\n", std::string(failure_name(response.failure)).c_str(),
                    response.status, response.message.c_str());
    }
    assert_int_equal(response.failure, wanted);
}

// ---- a CONNECT proxy -------------------------------------------------------------------------

void copy_both_ways(int a, int b) {
    pollfd ends[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
    char bytes[16384];
    while (poll(ends, 2, -1) > 0) {
        for (int i = 0; i < 2; ++i) {
            if (ends[i].revents == 0) {
                continue;
            }
            const ssize_t count = recv(ends[i].fd, bytes, sizeof bytes, 0);
            if (count <= 0 || send(ends[1 - i].fd, bytes, static_cast<std::size_t>(count), MSG_NOSIGNAL) != count) {
                return;
            }
        }
    }
}

// Connects to whatever IPv4 address it is asked for, except `refused`.
class Proxy {
 public:
    explicit Proxy(std::string refused = "")
        : refused_(std::move(refused)), server_([this](Connection& c) { serve(c); }) {}
    [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(server_.port()); }
    [[nodiscard]] int connections() const { return server_.connections(); }
    std::vector<std::string> heads() {
        const std::lock_guard lock(mutex_);
        return heads_;
    }

 private:
    void serve(Connection& connection) {
        const auto request = connection.read_request();
        if (!request) {
            return;
        }
        {
            const std::lock_guard lock(mutex_);
            heads_.push_back(request->head);
        }
        const std::string target = request->head.substr(8, request->head.find(' ', 8) - 8);  // behind "CONNECT "
        const std::string host = target.substr(0, target.rfind(':'));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(target.substr(target.rfind(':') + 1))));
        const int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (host == refused_ || inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1 ||
            connect(out, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
            connection.respond(403);
        } else if (connection.write("HTTP/1.1 200 Connected\r\nX-Proxy: inside\r\n\r\n")) {
            copy_both_ways(connection.fd(), out);
        }
        close(out);
    }

    std::string refused_;
    std::mutex mutex_;
    std::vector<std::string> heads_;
    LoopbackServer server_;  // last: its threads end before the rest
};

HttpClientOptions through(const Proxy& proxy) {
    HttpClientOptions options;
    options.proxy = {proxy.url(), "user", "p:ss%20"};
    return options;
}

void test_proxy_is_asked_for_the_checked_address(void**) {
    std::string head;
    LoopbackServer server([&](Connection& connection) {
        while (const auto request = connection.read_request()) {
            head = request->head;
            connection.respond(200, "hello");
        }
    });
    Proxy proxy;
    // A second look-up would lead elsewhere.
    script_dns({"127.0.0.1", "169.254.169.254"});
    HttpResponse response;
    {
        Fixture fixture(through(proxy));
        response = fixture.fetch(request_to(host_url(server, "rebind.test")));
        expect_failure(fixture.fetch(request_to(host_url(server, "rebind.test"))), HttpFailure::kNone);
    }
    expect_failure(response, HttpFailure::kNone);
    assert_int_equal(response.status, 200);
    assert_string_equal(response.body.c_str(), "hello");
    assert_true(find_header(response.headers, "X-Proxy").empty());
    assert_int_equal(lookups(), 1);
    const auto heads = proxy.heads();
    assert_int_equal(heads.size(), 1);  // the tunnel is kept
    const std::string port = std::to_string(server.port());
    assert_true(heads[0].starts_with("CONNECT 127.0.0.1:" + port + " HTTP/1.1\r\n"));
    assert_true(heads[0].find("Proxy-Authorization: Basic dXNlcjpwOnNzJTIw\r\n") != std::string::npos);
    assert_true(heads[0].find("Signature") == std::string::npos);
    assert_true(head.find("\r\nHost: rebind.test:" + port + "\r\n") != std::string::npos);
    assert_true(head.find("Proxy-Authorization") == std::string::npos);
}

void test_proxy_never_hears_of_refused_targets(void**) {
    LoopbackServer server(LoopbackServer::answering(200));
    Proxy proxy;
    Fixture fixture(through(proxy));
    expect_failure(fixture.fetch(request_to(server.url(), {})), HttpFailure::kBlockedAddress);
    expect_failure(fixture.fetch(request_to("http://10.0.0.1:8080/")), HttpFailure::kBlockedAddress);
    expect_failure(fixture.fetch(request_to("http://169.254.169.254/latest/")), HttpFailure::kBlockedAddress);
    expect_failure(fixture.fetch(request_to("https://127.0.0.1:22/")), HttpFailure::kBlockedAddress);
    expect_failure(fixture.fetch(request_to("http://[::ffff:10.0.0.1]:8080/")), HttpFailure::kBlockedAddress);
    expect_failure(fixture.fetch(request_to("http://2130706433/")), HttpFailure::kBlockedAddress);
    script_dns({"10.0.0.1"});
    expect_failure(fixture.fetch(request_to("http://rebind.test:8080/")), HttpFailure::kBlockedAddress);
    assert_int_equal(proxy.connections(), 0);
}

// A tunnel that one organization keeps open must not carry the request of another that may not go there.
void test_kept_tunnel_is_of_one_address(void**) {
    std::atomic<int> requests{0};
    const auto count = [&](Connection& connection) {
        while (connection.read_request()) {
            ++requests;
            connection.respond(200);
        }
    };
    LoopbackServer first(count);
    LoopbackServer second(LoopbackServer::answering(204), INADDR_LOOPBACK + 1, first.port());
    Proxy proxy;
    HttpClientOptions options = through(proxy);
    options.resolve = {"two.example:" + std::to_string(first.port()) + ":127.0.0.1,127.0.0.2"};
    Fixture fixture(options);
    const std::string url = host_url(first, "two.example");
    assert_int_equal(fixture.fetch(request_to(url)).status, 200);
    assert_int_equal(fixture.fetch(request_to(url)).status, 200);
    assert_int_equal(proxy.connections(), 1);
    expect_failure(fixture.fetch(request_to(url, {"10.0.0.0/8"})), HttpFailure::kBlockedAddress);
    assert_int_equal(fixture.fetch(request_to(url, {"127.0.0.2"})).status, 204);
    assert_int_equal(requests, 2);
    assert_int_equal(proxy.connections(), 2);
    assert_int_equal(fixture.fetch(request_to(url)).status, 200);
    assert_int_equal(requests, 3);
}

// The environment neither adds a proxy nor excepts a host from the one of the configuration.
void test_environment_cannot_bypass_the_proxy(void**) {
    LoopbackServer server(LoopbackServer::answering(200));
    Proxy proxy;
    setenv("no_proxy", "*", 1);
    setenv("NO_PROXY", "*", 1);
    int status = 0;
    {
        Fixture fixture(through(proxy));
        status = fixture.fetch(request_to(server.url())).status;
    }
    unsetenv("no_proxy");
    unsetenv("NO_PROXY");
    assert_int_equal(status, 200);
    assert_int_equal(proxy.connections(), 1);
}

void test_refusing_proxy_is_a_failed_connection(void**) {
    LoopbackServer server(LoopbackServer::answering(200));
    Proxy proxy("127.0.0.1");
    Fixture fixture(through(proxy));
    const HttpResponse response = fixture.fetch(request_to(server.url()));
    expect_failure(response, HttpFailure::kConnection);
    assert_int_equal(response.status, 0);
    assert_string_equal(response.message.c_str(), "the proxy refused to connect to the endpoint");
    // The next address of a name is tried.
    LoopbackServer other(LoopbackServer::answering(204), INADDR_LOOPBACK + 1, server.port());
    HttpClientOptions options = through(proxy);
    options.resolve = {"two.example:" + std::to_string(server.port()) + ":127.0.0.1,10.0.0.1,127.0.0.2"};
    Fixture two(options);
    assert_int_equal(two.fetch(request_to(host_url(server, "two.example"))).status, 204);
    for (const std::string& head : proxy.heads()) {
        assert_true(head.find("10.0.0.1") == std::string::npos);
    }
}

void test_absent_proxy_is_not_gone_around(void**) {
    LoopbackServer server(LoopbackServer::answering(200));
    HttpClientOptions options;
    {
        LoopbackServer gone([](Connection&) {});
        options.proxy.url = gone.url("");
    }
    Fixture fixture(options);
    const HttpResponse response = fixture.fetch(request_to(server.url()));
    expect_failure(response, HttpFailure::kConnection);
    assert_string_equal(response.message.c_str(), "the proxy cannot be reached");
    assert_int_equal(server.connections(), 0);
}

// ---- DNS rebinding without a proxy ------------------------------------------------------------

// The name is fine when somebody looks, and leads inside when it is used.
void test_rebinding_is_met_where_the_socket_is_opened(void**) {
    LoopbackServer server(LoopbackServer::answering(200));
    script_dns({"8.8.8.8", "10.0.0.1", "169.254.169.254", "127.0.0.1"});
    const std::string url = "https://rebind.test:" + std::to_string(server.port()) + "/";
    HttpRequest look = request_to(url, {});
    look.only_resolves = true;
    {
        Fixture fixture({});
        const HttpResponse seen = fixture.fetch(std::move(look));
        expect_failure(seen, HttpFailure::kNone);
        assert_int_equal(seen.addresses.size(), 1);
        assert_string_equal(seen.addresses[0].to_string().c_str(), "8.8.8.8");
    }
    for (const std::string_view words : {"10.0.0.1 is private", "metadata", "127.0.0.1 is loopback"}) {
        Fixture fixture({});  // with a DNS cache of its own
        const HttpResponse response = fixture.fetch(request_to(url, {}));
        expect_failure(response, HttpFailure::kBlockedAddress);
        assert_true(response.message.find(words) != std::string::npos);
    }
    assert_int_equal(lookups(), 4);
    assert_int_equal(server.connections(), 0);
}

// ---- look-ups ---------------------------------------------------------------------------------

void test_lookup_shows_every_address_and_opens_none(void**) {
    LoopbackServer server(LoopbackServer::answering(200));
    const std::string port = std::to_string(server.port());
    HttpClientOptions options;
    options.resolve = {"many.example:" + port + ":127.0.0.1,10.0.0.1,[2001:db8::1],127.0.0.1,169.254.169.254"};
    Fixture fixture(options);
    const auto look = [&](std::string url) {
        HttpRequest request = request_to(std::move(url));
        request.only_resolves = true;
        return fixture.fetch(std::move(request));
    };
    const HttpResponse many = look(host_url(server, "many.example"));
    expect_failure(many, HttpFailure::kNone);
    std::vector<std::string> found;
    for (const IpAddress& address : many.addresses) {
        found.push_back(address.to_string());
    }
    std::sort(found.begin(), found.end());
    const std::vector<std::string> wanted = {"10.0.0.1", "127.0.0.1", "169.254.169.254", "2001:db8::1"};
    assert_true(found == wanted);
    assert_int_equal(look(server.url()).addresses.size(), 1);
    expect_failure(look("https://nowhere.invalid/"), HttpFailure::kDns);
    expect_failure(look("https://127.1/"), HttpFailure::kBlockedAddress);
    assert_int_equal(server.connections(), 0);
    // The handle that looked up sends as ever.
    assert_int_equal(fixture.fetch(request_to(server.url())).status, 200);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_proxy_is_asked_for_the_checked_address),
        cmocka_unit_test(test_proxy_never_hears_of_refused_targets),
        cmocka_unit_test(test_kept_tunnel_is_of_one_address),
        cmocka_unit_test(test_environment_cannot_bypass_the_proxy),
        cmocka_unit_test(test_refusing_proxy_is_a_failed_connection),
        cmocka_unit_test(test_absent_proxy_is_not_gone_around),
        cmocka_unit_test(test_rebinding_is_met_where_the_socket_is_opened),
        cmocka_unit_test(test_lookup_shows_every_address_and_opens_none),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
