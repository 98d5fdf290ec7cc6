// links: headgate_deliver OpenSSL::SSL
// Many endpoints at once, some of them dead, and endpoints that speak HTTP/2 (nginx).
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lua-free-tests/certificate.h"
#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/loopback_server.h"
#include "sidecar/deliver/http_client.h"

using namespace headgate;
using Connection = LoopbackServer::Connection;

namespace {

struct Fixture {
    boost::asio::io_context loop;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard = make_work_guard(loop);
    HttpClient client;
    std::size_t done = 0;

    explicit Fixture(HttpClientOptions options = {}) : client(loop.get_executor(), make_guard(), std::move(options)) {}

    static TargetGuard make_guard() {
        TargetGuardOptions options;
        options.allow_networks = {parse_network("127.0.0.0/8").value()};
        return TargetGuard(std::move(options));
    }
    void submit(const std::string& url, std::vector<std::string> networks, std::function<void(HttpResponse)> each) {
        HttpRequest request;
        request.url = url;
        request.body = std::make_shared<const std::string>("{}");
        request.timeout_ms = 20'000;
        request.org_networks = std::make_shared<const std::vector<std::string>>(std::move(networks));
        client.submit(std::move(request), [this, each = std::move(each)](HttpResponse response) {
            each(std::move(response));
            ++done;
        });
    }
    bool wait_for(std::size_t wanted) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (done < wanted && std::chrono::steady_clock::now() < deadline) {
            loop.run_one_until(deadline);
        }
        return done >= wanted;
    }
    HttpResponse fetch(const std::string& url, std::vector<std::string> networks = {"*"}) {
        HttpResponse result;
        result.status = -1;
        const std::size_t before = done;
        submit(url, std::move(networks), [&](HttpResponse response) { result = std::move(response); });
        wait_for(before + 1);
        return result;
    }
};

// Opened by the test; whoever waits goes on.
class Gate {
 public:
    void open() {
        const std::lock_guard lock(mutex_);
        is_open_ = true;
        changed_.notify_all();
    }
    void arrive_and_wait() {
        std::unique_lock lock(mutex_);
        ++arrived_;
        changed_.notify_all();
        changed_.wait_for(lock, std::chrono::seconds(30), [this] { return is_open_; });
    }
    bool wait_for_arrivals(int count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return arrived_ >= count; });
    }

 private:
    std::mutex mutex_;
    std::condition_variable changed_;
    int arrived_ = 0;
    bool is_open_ = false;
};

// 1000 endpoints of which 100 are dead or slow: every healthy one is answered while the slow ones still hold theirs.
void test_dead_endpoints_hold_back_nobody(void**) {
    constexpr int kHealthy = 900;
    constexpr int kSlow = 34;
    constexpr int kOfEach = 33;  // refusing, resetting
    // Both ends of every connection are ours.
    rlimit files{};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = std::min<rlim_t>(files.rlim_max, 8192);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    Gate gate;
    LoopbackServer healthy(LoopbackServer::answering(204));
    LoopbackServer resetting([](Connection& connection) {
        if (connection.read_request()) {
            connection.reset();
        }
    });
    LoopbackServer slow([&](Connection& connection) {
        if (connection.read_request()) {
            gate.arrive_and_wait();
            connection.respond(200);
        }
    });
    std::uint16_t refusing_port = 0;
    {
        LoopbackServer gone([](Connection&) {});
        refusing_port = gone.port();
    }
    std::vector<std::string> urls;
    HttpClientOptions options;
    const auto add = [&](std::string_view kind, int count, std::uint16_t port) {
        for (int i = 0; i < count; ++i) {
            const std::string host = std::string(kind) + std::to_string(i) + ".example:" + std::to_string(port);
            options.resolve.push_back(host + ":127.0.0.1");
            urls.push_back("http://" + host + "/");
        }
    };
    add("slow", kSlow, slow.port());
    add("refusing", kOfEach, refusing_port);
    add("resetting", kOfEach, resetting.port());
    add("healthy", kHealthy, healthy.port());
    int good = 0;
    int failed = 0;
    int late = 0;
    bool all_done = false;
    {
        Fixture fixture(options);
        for (const std::string& url : urls) {
            fixture.submit(url, {"*"}, [&](const HttpResponse& response) {
                good += response.status == 204 ? 1 : 0;
                late += response.status == 200 ? 1 : 0;
                failed += response.failure == HttpFailure::kConnection ? 1 : 0;
            });
        }
        const bool others_done = fixture.wait_for(urls.size() - kSlow);
        const bool none_late = late == 0;
        gate.open();
        all_done = others_done && none_late && fixture.wait_for(urls.size());
    }
    assert_true(all_done);
    assert_int_equal(good, kHealthy);
    assert_int_equal(failed, 2 * kOfEach);
    assert_int_equal(late, kSlow);
}

// No descriptor is left: the endpoint is not to blame, whether it has an address or a name. Connections that are there
// go on being used.
void test_lack_of_descriptors_is_nobody_elses_fault(void**) {
    LoopbackServer kept(LoopbackServer::answering(204));
    LoopbackServer other(LoopbackServer::answering(204));
    Fixture fixture;
    assert_int_equal(fixture.fetch(kept.url()).status, 204);
    rlimit before{};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    rlimit none = before;
    none.rlim_cur = 3;  // below all that are open: whatever is closed meanwhile makes no room
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    const HttpResponse on_kept = fixture.fetch(kept.url());
    const HttpResponse by_address = fixture.fetch(other.url());
    const HttpResponse by_name = fixture.fetch("http://name.invalid/");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(on_kept.status, 204);
    for (const HttpResponse* response : {&by_address, &by_name}) {
        assert_int_equal(response->failure, HttpFailure::kInterrupted);
        assert_int_equal(response->local_fault, LocalFault::kNoSocket);
        assert_int_equal(response->status, 0);
        assert_false(response->message.empty());
    }
    assert_int_equal(fixture.fetch(other.url()).status, 204);
}

// ---- HTTP/2 ----------------------------------------------------------------------------------

// An nginx with TLS and HTTP/2 in front of `backend`; it tells which connection and protocol a request came by.
class Http2Server {
 public:
    // After `requests_max` requests it says GOAWAY on a connection, and ignores what else comes on it.
    explicit Http2Server(std::uint16_t backend, int requests_max = 1000) {
        char name[] = "/tmp/headgate-h2-XXXXXX";
        directory_ = mkdtemp(name);
        certificate_.save(directory_ + "/cert.pem");
        certificate_.save_key(directory_ + "/key.pem");
        {
            LoopbackServer free_port([](Connection&) {});
            port_ = free_port.port();
        }
        std::ofstream conf(directory_ + "/nginx.conf");
        conf << "daemon off; master_process off; pid " << directory_ << "/pid; error_log " << directory_
             << "/error.log;\nevents { worker_connections 256; }\nhttp {\n access_log off;\n";
        for (const char* what : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"}) {
            conf << " " << what << "_temp_path " << directory_ << "/" << what << ";\n";
        }
        conf << " server {\n  listen 127.0.0.1:" << port_ << " ssl http2;\n  ssl_certificate " << directory_
             << "/cert.pem;\n  ssl_certificate_key " << directory_
             << "/key.pem;\n  add_header X-Connection $connection always;\n"
                "  add_header X-Protocol $server_protocol always;\n"
                "  keepalive_requests "
             << requests_max
             << ";\n"
                "  location / { proxy_pass http://127.0.0.1:"
             << backend << "; }\n }\n}\n";
        conf.close();
        const std::string file = directory_ + "/nginx.conf";
        const std::string log = directory_ + "/error.log";
        const char* nginx = getenv("NGINX");
        pid_ = fork();
        if (pid_ == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);  // a failed assertion destroys nothing
            execlp(nginx == nullptr ? "nginx" : nginx, "nginx", "-e", log.c_str(), "-p", directory_.c_str(), "-c",
                   file.c_str(), nullptr);
            execl("/usr/sbin/nginx", "nginx", "-e", log.c_str(), "-p", directory_.c_str(), "-c", file.c_str(), nullptr);
            _exit(127);
        }
    }
    ~Http2Server() {
        kill(pid_, SIGTERM);
        waitpid(pid_, nullptr, 0);
        std::filesystem::remove_all(directory_);
    }
    bool wait_until_it_listens() {
        for (int i = 0; i < 1000 && waitpid(pid_, nullptr, WNOHANG) == 0; ++i) {
            const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            sockaddr_in address{};
            address.sin_family = AF_INET;
            address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            address.sin_port = htons(port_);
            const bool is_there = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
            close(fd);
            if (is_there) {
                return true;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        return false;
    }
    [[nodiscard]] std::string url() const { return "https://127.0.0.1:" + std::to_string(port_) + "/"; }
    [[nodiscard]] std::string ca_file() const { return directory_ + "/cert.pem"; }

 private:
    Certificate certificate_;
    std::string directory_;
    std::uint16_t port_ = 0;
    pid_t pid_ = 0;
};

void test_http2_carries_many_deliveries_on_one_connection(void**) {
    constexpr int kAtOnce = 16;
    Gate gate;
    std::atomic<bool> is_first{true};
    std::atomic<int> reached{0};
    LoopbackServer backend([&](Connection& connection) {
        if (connection.read_request()) {
            ++reached;
            if (!is_first.exchange(false)) {
                gate.arrive_and_wait();  // until all of them are under way
            }
            connection.respond(200);
        }
    });
    Http2Server server(backend.port());
    assert_true(server.wait_until_it_listens());
    std::set<std::string> connections;
    std::set<std::string> protocols;
    int good = 0;
    bool all_at_once = false;
    HttpResponse foreign;
    int reached_by_foreign = 0;
    {
        HttpClientOptions options;
        options.ca_file = server.ca_file();
        Fixture fixture(options);
        const auto note = [&](const HttpResponse& response) {
            good += response.status == 200 ? 1 : 0;
            connections.emplace(find_header(response.headers, "X-Connection"));
            protocols.emplace(find_header(response.headers, "X-Protocol"));
        };
        note(fixture.fetch(server.url()));
        for (int i = 0; i < kAtOnce; ++i) {
            fixture.submit(server.url(), {"*"}, note);
        }
        all_at_once = gate.wait_for_arrivals(kAtOnce);
        // One that may not go there is refused on the connection that carries the others, and disturbs none of them.
        const int before = reached;
        fixture.submit(server.url(), {}, [&](HttpResponse response) { foreign = std::move(response); });
        fixture.wait_for(2);
        reached_by_foreign = reached - before;
        gate.open();
        fixture.wait_for(2 + kAtOnce);
    }
    assert_true(all_at_once);
    assert_int_equal(foreign.failure, HttpFailure::kBlockedAddress);
    assert_int_equal(reached_by_foreign, 0);
    assert_int_equal(good, 1 + kAtOnce);
    assert_int_equal(connections.size(), 1);
    assert_int_equal(protocols.size(), 1);
    assert_string_equal(protocols.begin()->c_str(), "HTTP/2.0");
}

// A server that has had enough of a connection says so while requests are on their way on it. Those that it leaves
// unread are sent again on another: each arrives, once, and none counts as failed.
void test_http2_goaway_loses_and_fails_nothing(void**) {
    constexpr int kRequests = 120;
    std::mutex mutex;
    std::multiset<std::string> arrived;
    LoopbackServer backend([&](Connection& connection) {
        while (const auto request = connection.read_request()) {
            {
                const std::lock_guard lock(mutex);
                arrived.insert(request->head.substr(0, request->head.find("\r\n")));
            }
            connection.respond(200);
        }
    });
    Http2Server server(backend.port(), 5);
    assert_true(server.wait_until_it_listens());
    std::set<std::string> connections;
    int good = 0;
    bool all_done = false;
    {
        HttpClientOptions options;
        options.ca_file = server.ca_file();
        Fixture fixture(options);
        for (int i = 0; i < kRequests; ++i) {
            fixture.submit(server.url() + std::to_string(i), {"*"}, [&](const HttpResponse& response) {
                if (response.failure != HttpFailure::kNone || response.status != 200) {
                    print_error("%s %d %s\n", std::string(failure_name(response.failure)).c_str(), response.status,
                                response.message.c_str());
                }
                good += response.failure == HttpFailure::kNone && response.status == 200 ? 1 : 0;
                connections.emplace(find_header(response.headers, "X-Connection"));
            });
        }
        all_done = fixture.wait_for(kRequests);
    }
    assert_true(all_done);
    assert_int_equal(good, kRequests);
    assert_int_equal(arrived.size(), kRequests);
    assert_int_equal(std::set<std::string>(arrived.begin(), arrived.end()).size(), kRequests);
    assert_true(connections.size() >= kRequests / 5);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_dead_endpoints_hold_back_nobody),
        cmocka_unit_test(test_lack_of_descriptors_is_nobody_elses_fault),
        cmocka_unit_test(test_http2_carries_many_deliveries_on_one_connection),
        cmocka_unit_test(test_http2_goaway_loses_and_fails_nothing),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
