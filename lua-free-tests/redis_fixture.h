// A redis-server of a test's own, on a unix socket in a temporary directory, ended by its pid; and a
// plain synchronous client for it.
#pragma once

#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "lua-free-tests/temp_dir.h"

namespace headgate {

// Of 127.0.0.1.
inline std::string free_port() {
    int probe = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    bool is_bound = bind(probe, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                    getsockname(probe, reinterpret_cast<sockaddr*>(&address), &size) == 0;
    close(probe);
    return is_bound ? std::to_string(ntohs(address.sin_port)) : "1";
}

class RedisFixture {
 public:
    // `more`: further words of redis-server's command line.
    explicit RedisFixture(std::vector<std::string> more = {}) : more_(std::move(more)) { start(); }
    ~RedisFixture() { stop(SIGKILL); }
    RedisFixture(const RedisFixture&) = delete;
    RedisFixture& operator=(const RedisFixture&) = delete;

    [[nodiscard]] std::string socket_path() const { return dir_.path() + "/redis.sock"; }

    void start() {
        std::vector<std::string> words = {"redis-server", "--port",      "0",
                                          "--unixsocket", socket_path(), "--dir",
                                          dir_.path(),    "--save",      "",
                                          "--appendonly", "yes",         "--appendfsync",
                                          "always",       "--logfile",   dir_.path() + "/log"};
        words.insert(words.end(), more_.begin(), more_.end());
        std::vector<char*> argv;
        for (std::string& word : words) argv.push_back(word.data());
        argv.push_back(nullptr);
        pid_ = fork();
        if (pid_ == 0) {
            // It neither outlives a test that crashes nor keeps the pipe open that reads the test's output.
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            int nowhere = open("/dev/null", O_RDWR);
            dup2(nowhere, STDOUT_FILENO);
            dup2(nowhere, STDERR_FILENO);
            execvp(argv[0], argv.data());
            _exit(127);
        }
        auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (!answers()) {
            if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("redis-server does not answer");
            std::this_thread::yield();
        }
    }

    void stop(int signal) {
        client_.reset();
        if (pid_ <= 0) return;
        kill(pid_, signal);
        waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }

    using Reply = std::unique_ptr<redisReply, decltype(&freeReplyObject)>;
    Reply command(const std::vector<std::string>& words) {
        if (!client_) connect();
        std::vector<const char*> argv;
        std::vector<std::size_t> lengths;
        for (const std::string& word : words) {
            argv.push_back(word.data());
            lengths.push_back(word.size());
        }
        Reply reply(static_cast<redisReply*>(
                        redisCommandArgv(client_.get(), static_cast<int>(words.size()), argv.data(), lengths.data())),
                    freeReplyObject);
        if (!reply) {
            client_.reset();
            throw std::runtime_error("redis-server closed the connection");
        }
        return reply;
    }
    long long number(const std::vector<std::string>& words) { return command(words)->integer; }

 private:
    struct Closer {
        void operator()(redisContext* context) const { redisFree(context); }
    };
    void connect() {
        client_.reset(redisConnectUnix(socket_path().c_str()));
        if (!client_ || client_->err != 0) throw std::runtime_error("cannot connect to redis-server");
    }
    // Yes also when it wants a password: it is there.
    bool answers() {
        try {
            Reply reply = command({"PING"});
            return reply->type != REDIS_REPLY_ERROR || std::string(reply->str).starts_with("NOAUTH");
        } catch (const std::runtime_error&) {
            client_.reset();
            return false;
        }
    }

    TempDir dir_;
    std::vector<std::string> more_;
    pid_t pid_ = -1;
    std::unique_ptr<redisContext, Closer> client_;
};

}  // namespace headgate
