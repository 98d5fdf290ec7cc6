// A PostgreSQL server of a test's own: its directory and its unix socket in a temporary directory, no TCP, ended by its
// pid. It refuses to run as root, so that as root it runs as the user `postgres`.
#pragma once

#include <fcntl.h>
#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "lua-free-tests/temp_dir.h"

namespace headgate {

class PostgresFixture {
 public:
    PostgresFixture() {
        if (geteuid() == 0) {
            const passwd* user = getpwnam("postgres");
            if (user == nullptr) throw std::runtime_error("there is no user postgres (Debian package postgresql)");
            uid_ = user->pw_uid;
            gid_ = user->pw_gid;
            if (chown(dir_.path().c_str(), uid_, gid_) != 0) throw std::runtime_error("chown failed");
        }
        int status = 0;
        waitpid(run({"initdb", "-D", data(), "-U", "headgate", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"}),
                &status, 0);
        if (status != 0) throw std::runtime_error("initdb failed");
        start();
    }
    ~PostgresFixture() { stop(SIGQUIT); }
    PostgresFixture(const PostgresFixture&) = delete;
    PostgresFixture& operator=(const PostgresFixture&) = delete;

    [[nodiscard]] std::string url(const std::string& database) const {
        return "postgresql://headgate@/" + database + "?host=" + dir_.path();
    }

    void start() {
        pid_ = run({"postgres", "-D", data(), "-k", dir_.path(), "-c", "listen_addresses=", "-c", "shared_buffers=32MB",
                    "-c", "max_connections=40", "-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c",
                    "logging_collector=off", "-c", "timezone=UTC"});
        auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        while (PQping(url("postgres").c_str()) != PQPING_OK) {
            if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("PostgreSQL does not answer");
            std::this_thread::yield();
        }
    }
    // SIGINT: fast shutdown; SIGQUIT: at once, with recovery at the next start.
    void stop(int signal) {
        if (pid_ <= 0) return;
        kill(pid_, signal);
        waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }

    // The first column of the first row as text; throws what the server complains of.
    [[nodiscard]] std::string sql(const std::string& database, const std::string& statement) const {
        std::unique_ptr<PGconn, decltype(&PQfinish)> connection(PQconnectdb(url(database).c_str()), PQfinish);
        std::unique_ptr<PGresult, decltype(&PQclear)> result(PQexec(connection.get(), statement.c_str()), PQclear);
        auto status = PQresultStatus(result.get());
        if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
            throw std::runtime_error(std::string("SQL failed: ") + PQerrorMessage(connection.get()));
        }
        return PQntuples(result.get()) > 0 ? PQgetvalue(result.get(), 0, 0) : "";
    }

 private:
    [[nodiscard]] std::string data() const { return dir_.path() + "/data"; }

    static std::string binary(const std::string& name) {
        std::filesystem::path newest;
        std::error_code none;
        for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql", none)) {
            auto path = version.path() / "bin" / name;
            if (std::filesystem::exists(path) && path > newest) newest = path;
        }
        return newest.empty() ? name : newest.string();
    }

    pid_t run(std::vector<std::string> words) {
        words[0] = binary(words[0]);
        std::vector<char*> argv;
        for (std::string& word : words) argv.push_back(word.data());
        argv.push_back(nullptr);
        const std::string log = dir_.path() + "/log";
        pid_t pid = fork();
        if (pid != 0) return pid;
        if (uid_ != 0 && (setgroups(0, nullptr) != 0 || setgid(gid_) != 0 || setuid(uid_) != 0)) _exit(126);
        // It neither outlives a test that crashes nor keeps the pipe open that reads the test's output.
        prctl(PR_SET_PDEATHSIG, SIGQUIT);
        int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
        if (chdir(dir_.path().c_str()) != 0) _exit(126);
        execvp(argv[0], argv.data());
        _exit(127);
    }

    TempDir dir_;
    uid_t uid_ = 0;
    gid_t gid_ = 0;
    pid_t pid_ = -1;
};

}  // namespace headgate
