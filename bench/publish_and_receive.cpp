// Both ends of the latency row in one process, so that one clock measures: publishes events at a fixed rate and is the
// webhook that receives them.
//
// Input: the edge's port, a file with a token, the port to receive at, events per second, seconds, and the bytes of an
// event. Output: one JSON object: sent, accepted (201), received (distinct), duplicates, and percentiles in ms of
// accepted (due time to the 201) and of received (due time to the last byte of the delivery). Latency counts from
// the time at which an event was due to be sent: a stall delays what is behind it, and is seen. What is sent in the
// first second is not counted (connections are made). Ends when all was received, or 30 s after the last was sent.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kPublishersMax = 256;
constexpr std::chrono::seconds kPatience{30};
constexpr std::string_view kNumber = "\"bench_number\":";

struct Options {
    int edge_port = 0, own_port = 0, rate = 0, seconds = 0, bytes = 0;
    std::string token;
};

[[noreturn]] void fail(const char* what) { throw std::runtime_error(std::string(what) + ": " + std::strerror(errno)); }

sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

// One HTTP/1.1 connection; messages in both directions have a Content-Length.
struct Connection {
    int fd = -1;
    bool is_publisher = false;
    std::string in;
    long number = -1;  // of the event under way

    ~Connection() { close(fd); }

    // The first whole message of `in`: its length, or 0.
    [[nodiscard]] std::size_t message_length() const {
        const std::size_t head = in.find("\r\n\r\n");
        if (head == std::string::npos) return 0;
        std::size_t length = 0;
        for (std::string_view name : {"\r\nContent-Length: ", "\r\ncontent-length: "}) {
            const std::size_t at = in.find(name);
            if (at < head) std::from_chars(in.data() + at + name.size(), in.data() + head, length);
        }
        return in.size() >= head + 4 + length ? head + 4 + length : 0;
    }
};

class Run {
 public:
    explicit Run(Options options)
        : options_(std::move(options)),
          count_(static_cast<long>(options_.rate) * options_.seconds),
          accepted_ms_(static_cast<std::size_t>(count_), -1),
          received_ms_(static_cast<std::size_t>(count_), -1) {
        epoll_ = epoll_create1(0);
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        int on = 1;
        setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        const sockaddr_in address = loopback(options_.own_port);
        if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail("bind");
        if (listen(listener_, 256) != 0) fail("listen");
        watch(listener_, nullptr);
    }

    void go() {
        begun_ = Clock::now();
        Clock::time_point patience = Clock::time_point::max();
        while (received_ < count_ && Clock::now() < patience) {
            const Clock::time_point now = Clock::now();
            while (due_ < count_ && due_at(due_) <= now) waiting_.push_back(due_++);
            publish_waiting();
            if (due_ == count_ && patience == Clock::time_point::max()) patience = now + kPatience;
            serve(due_ < count_
                      ? std::max(milliseconds(0), std::chrono::duration_cast<milliseconds>(due_at(due_) - now))
                      : milliseconds(100));
        }
    }

    void print() const {
        std::printf("{\"sent\":%ld,\"accepted\":%ld,\"received\":%ld,\"duplicates\":%ld,\"refused\":%ld", due_,
                    accepted_, received_, duplicates_, refused_);
        print_percentiles("accepted", accepted_ms_);
        print_percentiles("received", received_ms_);
        std::printf("}\n");
    }

 private:
    [[nodiscard]] Clock::time_point due_at(long number) const {
        return begun_ + std::chrono::nanoseconds(number * 1'000'000'000L / options_.rate);
    }

    [[nodiscard]] double ms_since_due(long number) const {
        return std::chrono::duration<double, std::milli>(Clock::now() - due_at(number)).count();
    }

    void print_percentiles(const char* name, const std::vector<double>& all) const {
        std::vector<double> counted;
        for (long i = options_.seconds > 1 ? options_.rate : 0; i < count_; ++i) {
            const double value = all[static_cast<std::size_t>(i)];
            if (value >= 0) counted.push_back(value);
        }
        std::sort(counted.begin(), counted.end());
        for (const auto& [label, share] : {std::pair{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1.0}}) {
            if (counted.empty()) continue;
            const auto place = static_cast<std::size_t>(share * static_cast<double>(counted.size()));
            std::printf(",\"%s_%s_ms\":%.3f", name, label, counted[std::min(place, counted.size() - 1)]);
        }
    }

    void watch(int fd, Connection* connection) const {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.ptr = connection;
        if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
    }

    Connection& add(int fd, bool is_publisher) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        Connection& connection = *connections_.emplace_back(std::make_unique<Connection>());
        connection.fd = fd;
        connection.is_publisher = is_publisher;
        watch(fd, &connection);
        return connection;
    }

    void publish_waiting() {
        while (!waiting_.empty()) {
            if (idle_.empty()) {
                if (publishers_ == kPublishersMax) return;
                const int fd = socket(AF_INET, SOCK_STREAM, 0);
                const sockaddr_in address = loopback(options_.edge_port);
                if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail("connect");
                idle_.push_back(&add(fd, true));
                publishers_++;
            }
            Connection& connection = *idle_.back();
            idle_.pop_back();
            connection.number = waiting_.front();
            waiting_.pop_front();
            std::string body = "{\"type\":\"order.placed\",\"source\":\"bench\",\"payload\":{";
            body.append(kNumber).append(std::to_string(connection.number)).append(",\"note\":\"");
            const auto bytes = static_cast<std::size_t>(options_.bytes);
            body.append(bytes > body.size() + 3 ? bytes - body.size() - 3 : 0, 'x').append("\"}}");
            write_all(connection.fd,
                      "POST /events HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\n"
                      "Authorization: Bearer " +
                          options_.token + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
        }
    }

    // A request or an answer of some KiB always fits into an idle socket's buffer.
    static void write_all(int fd, const std::string& text) {
        if (write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) fail("write");
    }

    void serve(milliseconds timeout) {
        epoll_event events[64];
        const int ready = epoll_wait(epoll_, events, 64, static_cast<int>(timeout.count()));
        for (int i = 0; i < ready; ++i) {
            auto* connection = static_cast<Connection*>(events[i].data.ptr);
            if (connection != nullptr) {
                read_from(*connection);
                continue;
            }
            const int fd = accept(listener_, nullptr, nullptr);
            if (fd >= 0) add(fd, false);
        }
    }

    void read_from(Connection& connection) {
        char buffer[65536];
        const ssize_t got = read(connection.fd, buffer, sizeof buffer);
        if (got <= 0) {
            if (connection.is_publisher && got == 0) throw std::runtime_error("the edge closed a connection");
            epoll_ctl(epoll_, EPOLL_CTL_DEL, connection.fd, nullptr);  // the sidecar's to close
            return;
        }
        connection.in.append(buffer, static_cast<std::size_t>(got));
        while (const std::size_t length = connection.message_length()) {
            const std::string message = connection.in.substr(0, length);
            connection.in.erase(0, length);
            connection.is_publisher ? take_answer(connection, message) : take_delivery(connection, message);
        }
    }

    void take_answer(Connection& connection, const std::string& message) {
        if (message.compare(0, 12, "HTTP/1.1 201") == 0) {
            accepted_++;
            accepted_ms_[static_cast<std::size_t>(connection.number)] = ms_since_due(connection.number);
        } else {
            refused_++;
        }
        idle_.push_back(&connection);
    }

    void take_delivery(Connection& connection, const std::string& message) {
        write_all(connection.fd, "HTTP/1.1 204 No Content\r\n\r\n");
        const std::size_t at = message.find(kNumber);
        long number = -1;
        if (at != std::string::npos)
            std::from_chars(message.data() + at + kNumber.size(), message.data() + message.size(), number);
        if (number < 0 || number >= count_) throw std::runtime_error("a delivery without a number");
        double& received = received_ms_[static_cast<std::size_t>(number)];
        if (received >= 0) {
            duplicates_++;
            return;
        }
        received = ms_since_due(number);
        received_++;
    }

    Options options_;
    long count_;
    int epoll_ = -1, listener_ = -1, publishers_ = 0;
    Clock::time_point begun_;
    long due_ = 0, accepted_ = 0, refused_ = 0, received_ = 0, duplicates_ = 0;
    std::deque<long> waiting_;
    std::vector<std::unique_ptr<Connection>> connections_;
    std::vector<Connection*> idle_;
    std::vector<double> accepted_ms_, received_ms_;
};

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc != 7) {
            throw std::invalid_argument("usage: publish_and_receive EDGE_PORT TOKEN_FILE OWN_PORT RATE SECONDS BYTES");
        }
        Options options{std::stoi(argv[1]), std::stoi(argv[3]), std::stoi(argv[4]),
                        std::stoi(argv[5]), std::stoi(argv[6]), ""};
        std::ifstream(argv[2]) >> options.token;
        if (options.token.empty() || options.rate < 1 || options.seconds < 1)
            throw std::invalid_argument("bad arguments");
        Run run(std::move(options));
        run.go();
        run.print();
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "publish_and_receive: %s\n", error.what());
        return 1;
    }
}
