// A small HTTP server on 127.0.0.1 for tests, that can misbehave in every way a socket allows: plain
// blocking sockets, one thread for each connection. The test says what happens on a connection.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

class LoopbackServer {
 public:
    struct Request {
        std::string head, body;
    };

    class Connection {
     public:
        explicit Connection(int fd) : fd_(fd) {}
        // The next request, or nothing when the client has gone.
        std::optional<Request> read_request() {
            std::size_t end = std::string::npos;
            while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
                if (!fill()) {
                    return std::nullopt;
                }
            }
            Request request;
            request.head = buffer_.substr(0, end + 4);
            const std::size_t at = request.head.find("Content-Length: ");
            const std::size_t length =
                at == std::string::npos ? 0 : std::strtoul(request.head.c_str() + at + 16, nullptr, 10);
            while (buffer_.size() < end + 4 + length) {
                if (!fill()) {
                    return std::nullopt;
                }
            }
            request.body = buffer_.substr(end + 4, length);
            buffer_.erase(0, end + 4 + length);
            return request;
        }
        // False when the client has gone.
        bool write(std::string_view bytes) {
            while (!bytes.empty()) {
                const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
                if (sent <= 0) {
                    return false;
                }
                bytes.remove_prefix(static_cast<std::size_t>(sent));
            }
            return true;
        }
        bool respond(int status, std::string_view body = "", std::string_view headers = "") {
            return write("HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Length: " + std::to_string(body.size()) +
                         "\r\n" + std::string(headers) + "\r\n" + std::string(body));
        }
        // Ends the connection with RST instead of FIN.
        void reset() {
            const linger now{1, 0};
            setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        }
        void wait_until_gone() {
            while (fill()) {
            }
        }
        [[nodiscard]] int fd() const { return fd_; }

     private:
        bool fill() {
            char bytes[65536];
            const ssize_t count = recv(fd_, bytes, sizeof bytes, 0);
            if (count <= 0) {
                return false;
            }
            buffer_.append(bytes, static_cast<std::size_t>(count));
            return true;
        }
        int fd_;
        std::string buffer_;
    };
    using Handler = std::function<void(Connection&)>;

    // On a free port of 127.0.0.1, unless told otherwise.
    explicit LoopbackServer(Handler handler, std::uint32_t host = INADDR_LOOPBACK, std::uint16_t port = 0)
        : handler_(std::move(handler)) {
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(host);
        address.sin_port = htons(port);
        socklen_t length = sizeof address;
        if (bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
            listen(listener_, 1024) != 0 ||
            getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
            std::abort();
        }
        port_ = ntohs(address.sin_port);
        acceptor_ = std::thread([this] { accept_all(); });
    }
    // Answers every request with this status.
    static Handler answering(int status) {
        return [status](Connection& connection) {
            while (connection.read_request() && connection.respond(status)) {
            }
        };
    }
    ~LoopbackServer() {
        shutdown(listener_, SHUT_RDWR);
        acceptor_.join();
        close(listener_);
        {
            const std::lock_guard lock(mutex_);
            for (const int fd : open_) {
                shutdown(fd, SHUT_RDWR);
            }
        }
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }
    LoopbackServer(const LoopbackServer&) = delete;
    LoopbackServer& operator=(const LoopbackServer&) = delete;

    [[nodiscard]] std::uint16_t port() const { return port_; }
    [[nodiscard]] int connections() const { return connections_; }
    [[nodiscard]] std::string url(std::string_view path = "/", std::string_view scheme = "http",
                                  std::string_view host = "127.0.0.1") const {
        return std::string(scheme) + "://" + std::string(host) + ":" + std::to_string(port_) + std::string(path);
    }

 private:
    void accept_all() {
        for (;;) {
            const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
            if (fd < 0) {
                return;
            }
            ++connections_;
            const std::lock_guard lock(mutex_);
            open_.push_back(fd);
            threads_.emplace_back([this, fd] {
                Connection connection(fd);
                handler_(connection);
                const std::lock_guard inner_lock(mutex_);
                std::erase(open_, fd);
                close(fd);
            });
        }
    }

    Handler handler_;
    int listener_ = -1;
    std::uint16_t port_ = 0;
    std::atomic<int> connections_{0};
    std::mutex mutex_;
    std::vector<int> open_;
    std::vector<std::thread> threads_;
    std::thread acceptor_;
};
