// RAII over libpq: a connection with its prepared statements, a queue of commands that travel together, a result.
// Errors are thrown as PgError inside the store only; PostgresStore turns them into Results at its boundary.
// Next file: postgres_store.h.
//
// The connection is always in pipeline mode (PostgreSQL 15, section 34.5): send() only queues, flush() sends what is
// queued and waits for all the answers, query() is both. A transaction of many statements costs as many round
// trips as it has answers to wait for. Values travel as bound parameters in binary form, never inside of SQL.
#pragma once

#include <libpq-fe.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/result.h"
#include "sidecar/base/own_servers.h"
#include "sidecar/store/postgres_params.h"
#include "sidecar/store/store_failure.h"

namespace headgate {

struct PgError : StoreFailure {
    explicit PgError(Error cause, std::string state = {})
        : StoreFailure(std::move(cause)), sqlstate(std::move(state)) {}
    std::string sqlstate;  // empty: not from the server
};

// What an SQLSTATE means to the caller. Only what the data itself is to blame for must not be tried again: a
// persist that fails for another reason would otherwise put good events into quarantine.
[[nodiscard]] ErrorCode error_code_of_sqlstate(std::string_view sqlstate) noexcept;

// The rows of one statement, with a cursor before the first. Columns count from 0. Views live as long as the object.
class PgResult {
 public:
    PgResult() = default;
    explicit PgResult(PGresult* raw) : raw_(raw) {}

    bool step() { return ++row_ < PQntuples(raw_.get()); }  // is there a row?
    void rewind() { row_ = -1; }
    [[nodiscard]] int rows() const { return PQntuples(raw_.get()); }
    [[nodiscard]] std::int64_t affected() const;
    [[nodiscard]] std::string_view view(int column) const {
        return {PQgetvalue(raw_.get(), row_, column), static_cast<std::size_t>(PQgetlength(raw_.get(), row_, column))};
    }
    [[nodiscard]] std::string text(int column) const { return std::string(view(column)); }
    [[nodiscard]] std::int64_t number(int column) const;  // of every integer type and boolean; 0 of NULL
    [[nodiscard]] double real(int column) const;          // float8
    [[nodiscard]] bool is_null(int column) const { return PQgetisnull(raw_.get(), row_, column) != 0; }
    [[nodiscard]] std::optional<std::int64_t> optional_number(int column) const {
        return is_null(column) ? std::nullopt : std::optional(number(column));
    }
    [[nodiscard]] PGresult* raw() const { return raw_.get(); }

 private:
    struct Clearer {
        void operator()(PGresult* result) const noexcept { PQclear(result); }
    };
    std::unique_ptr<PGresult, Clearer> raw_;
    int row_ = -1;
};

struct PgTarget {
    std::string url;
    std::string password;  // replaces the URL's when not empty
    bool read_only = false;
    std::shared_ptr<OwnServers> own_servers{};  // told of each server that is connected to; may be null
};

class PgConnection {
 public:
    explicit PgConnection(PgTarget target) : target_(std::move(target)) {}
    PgConnection(const PgConnection&) = delete;
    PgConnection& operator=(const PgConnection&) = delete;

    // Connects when there is no connection, or the one we had has ended meanwhile. Throws kUnavailable, at once while
    // the pause after a failed try lasts.
    void ensure();

    // Queues a statement; the ticket is for take(), after flush(). `sql` is a literal: its address finds the statement
    // prepared earlier.
    template <typename... Args>
    std::size_t send(const char* sql, const Args&... args) {
        PgParams params;
        (params.add(args), ...);
        return queue(sql, params);
    }
    // The same with parameters whose number is known only when it runs. `sql` lives as long as the connection.
    std::size_t send_params(const char* sql, const PgParams& params) { return queue(sql, params); }
    // Sends what is queued and waits for all of it. Throws the first error; then all that was queued behind it was
    // skipped by the server.
    void flush();
    [[nodiscard]] PgResult take(std::size_t ticket) { return std::move(results_.at(ticket)); }

    template <typename... Args>
    [[nodiscard]] PgResult query(const char* sql, const Args&... args) {
        std::size_t ticket = send(sql, args...);
        flush();
        return take(ticket);
    }
    template <typename... Args>
    std::int64_t execute(const char* sql, const Args&... args) {
        return changes_ = query(sql, args...).affected();
    }
    [[nodiscard]] std::int64_t changes() const noexcept { return changes_; }  // of the last execute()
    // Many statements, nothing bound; without the usual limit of time.
    void execute_script(std::string_view sql);

    // Does the server answer, and refuse this login for good: user, password, database, its rules of access? It is
    // asked once more, for at most 1 s.
    [[nodiscard]] bool is_login_refused() const;

    [[nodiscard]] bool in_transaction() const noexcept;
    [[nodiscard]] bool is_connected() const noexcept { return handle_ != nullptr; }
    // The next ensure() connects anew: a server of the URL that takes writes, where this one does not.
    void disconnect() noexcept { forget(); }
    // Ends the open transaction, if need be with the connection. What is queued is forgotten.
    void roll_back() noexcept;
    [[nodiscard]] int server_pid() const noexcept { return handle_ == nullptr ? 0 : PQbackendPID(handle_.get()); }

 private:
    using Clock = std::chrono::steady_clock;
    struct Closer {
        void operator()(PGconn* handle) const noexcept { PQfinish(handle); }
    };
    struct Statement {
        std::string name;
        bool is_prepared = false;
    };
    struct Queued {
        Statement* prepares = nullptr;  // set: the answer is to a Parse
    };

    std::size_t queue(const char* sql, const PgParams& params);
    void connect();
    void back_off(std::string why) noexcept;  // after a failed try to connect
    void tell_server() const;
    void set_up_session();
    void wait_for_input(Clock::time_point deadline);
    PGresult* next_result(Clock::time_point deadline);
    void collect(Clock::time_point deadline, std::optional<PgError>& failure);
    [[noreturn]] void lose(const std::string& why);
    void forget() noexcept;

    PgTarget target_;
    std::unique_ptr<PGconn, Closer> handle_;
    std::unordered_map<const char*, Statement> statements_;
    std::vector<Queued> queued_;
    std::vector<PgResult> results_;  // of the last flush, Parse answers left out
    std::int64_t changes_ = 0;
    std::size_t tickets_ = 0;  // given since the last flush
    Clock::time_point connect_not_before_{};
    std::chrono::milliseconds pause_{0};
    std::string connect_error_;  // of the last try
};

}  // namespace headgate
