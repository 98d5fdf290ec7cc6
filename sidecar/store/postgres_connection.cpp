// See postgres_connection.h.
#include "sidecar/store/postgres_connection.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <system_error>

namespace headgate {
namespace {

// The server gives up first (statement_timeout), so that the connection survives; the other limits are for a server
// that does not answer at all.
constexpr auto kAnswerTimeout = std::chrono::seconds(20);
constexpr auto kScriptTimeout = std::chrono::hours(2);
constexpr auto kRefusalTimeout = std::chrono::seconds(1);
constexpr auto kPauseMin = std::chrono::milliseconds(100);
constexpr auto kPauseMax = std::chrono::milliseconds(2000);

struct Setting {
    const char* name;
    const char* value;
};
// Unless the URL has them.
constexpr Setting kConnectDefaults[] = {
    {"connect_timeout", "5"},  {"keepalives_idle", "5"},      {"keepalives_interval", "2"},
    {"keepalives_count", "3"}, {"tcp_user_timeout", "10000"}, {"application_name", "headgate"},
};

// - A transaction whose owner stands still (SIGSTOP) must not hold its locks for longer than a lease.
// - A commit is on disk before it is acknowledged, whatever the server's default is.
// - Whether it may be written is for the server to say: an operator who makes it read-only means us as well.
// - Plans are made while tables are small and used when they are large: an index wherever there is one, and no JIT,
// which
//   costs more than any of our statements.
constexpr const char* kSessionSettings =
    "SELECT set_config('statement_timeout', '15000', false), set_config('lock_timeout', '10000', false),"
    " set_config('idle_in_transaction_session_timeout', '5000', false), set_config('jit', 'off', false),"
    " set_config('enable_seqscan', 'off', false), set_config('standard_conforming_strings', 'on', false),"
    " set_config('default_transaction_isolation', 'read committed', false),"
    " CASE WHEN $1 = 1 THEN set_config('default_transaction_read_only', 'on', false) END,"
    " CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END,"
    " current_setting('server_encoding'), current_setting('server_version_num')";
constexpr int kServerEncodingColumn = 9;
constexpr std::string_view kReadOnlyTransaction = "25006";

std::string field_of(const PGresult* result, int field) {
    const char* text = PQresultErrorField(result, field);
    return text == nullptr ? "" : text;
}

// The primary message only: details show values of rows.
PgError error_of(const PGresult* result) {
    std::string state = field_of(result, PG_DIAG_SQLSTATE);
    std::string message = "PostgreSQL: " + field_of(result, PG_DIAG_MESSAGE_PRIMARY) + " (" + state + ")";
    const ErrorCode code = error_code_of_sqlstate(state);
    return PgError({code, std::move(message)}, std::move(state));
}

std::string one_line(const char* message) {
    std::string text(message == nullptr ? "" : message);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
}

// What libpq is told; the words point into the target.
struct LoginWords {
    explicit LoginWords(const PgTarget& target);
    std::vector<const char*> names = {"dbname"};
    std::vector<const char*> values;
};

LoginWords::LoginWords(const PgTarget& target) : values{target.url.c_str()} {
    struct Freer {
        void operator()(PQconninfoOption* options) const noexcept { PQconninfoFree(options); }
    };
    char* complaint = nullptr;
    std::unique_ptr<PQconninfoOption, Freer> given(PQconninfoParse(target.url.c_str(), &complaint));
    if (complaint != nullptr) PQfreemem(complaint);  // it repeats the URL, and the password in it
    if (given == nullptr) {
        throw PgError({ErrorCode::kInvalidArgument, "store.url is not a PostgreSQL URL that can be read"});
    }
    auto is_given = [&](std::string_view name) {
        for (const PQconninfoOption* option = given.get(); option->keyword != nullptr; option++) {
            if (name == option->keyword) return option->val != nullptr;
        }
        return false;
    };
    auto add = [&](const char* name, const char* value) {
        names.push_back(name);
        values.push_back(value);
    };
    for (const Setting& setting : kConnectDefaults) {
        if (!is_given(setting.name)) add(setting.name, setting.value);
    }
    if (!is_given("target_session_attrs") && !target.read_only) add("target_session_attrs", "read-write");
    if (!target.password.empty()) add("password", target.password.c_str());
    add("client_encoding", "UTF8");
    add(nullptr, nullptr);
}

// Of messages made with PQERRORS_SQLSTATE the last one that came from a server: "…FATAL:  28P01".
std::string_view last_sqlstate(std::string_view messages) {
    const std::size_t before = messages.rfind(":  ");
    if (before == std::string_view::npos) return {};
    const std::string_view state = messages.substr(before + 3, 5);
    const bool is_state =
        state.size() == 5 && state.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string_view::npos;
    return is_state ? state : std::string_view();
}

}  // namespace

ErrorCode error_code_of_sqlstate(std::string_view sqlstate) noexcept {
    if (sqlstate.starts_with("23")) return ErrorCode::kConflict;       // integrity constraint violation
    if (sqlstate.starts_with("22")) return ErrorCode::kUnprocessable;  // data exception, such as a NUL in text
    if (sqlstate.starts_with("54")) return ErrorCode::kTooLarge;       // program limit exceeded
    if (sqlstate == "XX001" || sqlstate == "XX002") return ErrorCode::kCorrupt;
    return ErrorCode::kUnavailable;
}

// ---- results --------------------------------------------------------------------------------

std::int64_t PgResult::affected() const {
    std::string_view text = PQcmdTuples(raw_.get());
    std::int64_t count = 0;
    std::from_chars(text.data(), text.data() + text.size(), count);
    return count;
}

std::int64_t PgResult::number(int column) const {
    std::string_view bytes = view(column);
    if (bytes.empty()) return 0;
    std::uint64_t value =
        (static_cast<unsigned char>(bytes[0]) & 0x80U) != 0 && bytes.size() > 1 ? ~std::uint64_t{0} : 0;
    for (char byte : bytes) value = value << 8 | static_cast<unsigned char>(byte);
    return static_cast<std::int64_t>(value);
}

double PgResult::real(int column) const { return std::bit_cast<double>(number(column)); }

// ---- connecting -----------------------------------------------------------------------------

void PgConnection::forget() noexcept {
    handle_.reset();
    statements_.clear();
    queued_.clear();
    results_.clear();
    tickets_ = 0;
}

void PgConnection::lose(const std::string& why) {
    forget();
    throw PgError({ErrorCode::kUnavailable, "PostgreSQL: " + why});
}

void PgConnection::ensure() {
    if (handle_ != nullptr) {
        // What the server said while nobody listened: a connection that it has ended is replaced before it costs a
        // call.
        pollfd ready{PQsocket(handle_.get()), POLLIN, 0};
        if (::poll(&ready, 1, 0) <= 0) return;
        if (PQconsumeInput(handle_.get()) == 1 && PQstatus(handle_.get()) == CONNECTION_OK &&
            (ready.revents & (POLLHUP | POLLERR)) == 0) {
            // A notice, or the reason of the end, with the end itself still on its way.
            pollfd again{PQsocket(handle_.get()), POLLIN, 0};
            if (::poll(&again, 1, 0) <= 0 || PQconsumeInput(handle_.get()) == 1) return;
        }
        forget();
    }
    if (Clock::now() < connect_not_before_) {
        throw PgError({ErrorCode::kUnavailable, connect_error_});
    }
    try {
        connect();
        set_up_session();
        pause_ = std::chrono::milliseconds(0);
    } catch (const PgError& failure) {
        back_off(failure.error.message);
        throw;
    } catch (...) {
        back_off("PostgreSQL: not connected");
        throw;
    }
}

void PgConnection::back_off(std::string why) noexcept {
    pause_ = std::clamp(pause_ * 2, kPauseMin, kPauseMax);
    connect_not_before_ = Clock::now() + pause_;
    connect_error_ = std::move(why);
    forget();
}

void PgConnection::connect() {
    const LoginWords words(target_);
    handle_.reset(PQconnectdbParams(words.names.data(), words.values.data(), 1));
    if (handle_ == nullptr) throw std::bad_alloc();
    if (PQstatus(handle_.get()) != CONNECTION_OK) lose(one_line(PQerrorMessage(handle_.get())));
    tell_server();
    PQsetNoticeProcessor(
        handle_.get(), [](void*, const char*) {}, nullptr);
    if (PQsetnonblocking(handle_.get(), 1) != 0 || PQenterPipelineMode(handle_.get()) != 1) {
        lose(one_line(PQerrorMessage(handle_.get())));
    }
}

// libpq keeps the SQLSTATE of a failed login to itself, except in the words of its message.
bool PgConnection::is_login_refused() const {
    const LoginWords words(target_);
    std::unique_ptr<PGconn, Closer> handle(PQconnectStartParams(words.names.data(), words.values.data(), 1));
    if (handle == nullptr) throw std::bad_alloc();
    PQsetErrorVerbosity(handle.get(), PQERRORS_SQLSTATE);
    const auto deadline = Clock::now() + kRefusalTimeout;
    auto state = PQstatus(handle.get()) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
    while (state != PGRES_POLLING_OK && state != PGRES_POLLING_FAILED) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
        pollfd ready{PQsocket(handle.get()), static_cast<short>(state == PGRES_POLLING_READING ? POLLIN : POLLOUT), 0};
        const int count = left <= 0 ? 0 : ::poll(&ready, 1, static_cast<int>(left));
        if (count == 0 || (count < 0 && errno != EINTR)) return false;
        if (count > 0) state = PQconnectPoll(handle.get());
    }
    if (state == PGRES_POLLING_OK) return false;
    const std::string_view sqlstate = last_sqlstate(PQerrorMessage(handle.get()));
    return sqlstate.starts_with("28") || sqlstate.starts_with("3D");  // authorization; no such database
}

void PgConnection::tell_server() const {
    const char* address = PQhostaddr(handle_.get());  // empty for a unix socket
    if (target_.own_servers == nullptr || address == nullptr) return;
    std::uint16_t port = 0;
    const std::string_view text = PQport(handle_.get());
    std::from_chars(text.data(), text.data() + text.size(), port);
    if (const auto ip = parse_ip(address)) target_.own_servers->learn(*ip, port);
}

void PgConnection::set_up_session() {
    PgResult row = query(kSessionSettings, target_.read_only ? 1 : 0);
    if (!row.step() || row.view(kServerEncodingColumn) != "UTF8") {
        throw PgError({ErrorCode::kInvalidArgument,
                       "the PostgreSQL database's encoding is not UTF8: create it with ENCODING 'UTF8'"});
    }
    if (PQserverVersion(handle_.get()) < 140'000) {
        throw PgError({ErrorCode::kInvalidArgument, "PostgreSQL 14 or newer is needed"});
    }
}

// ---- queue ----------------------------------------------------------------------------------

std::size_t PgConnection::queue(const char* sql, const PgParams& params) {
    if (handle_ == nullptr) throw PgError({ErrorCode::kUnavailable, "PostgreSQL: not connected"});
    Statement& statement = statements_[sql];
    if (!statement.is_prepared) {
        if (statement.name.empty()) statement.name = "s" + std::to_string(statements_.size());
        if (PQsendPrepare(handle_.get(), statement.name.c_str(), sql, params.count(), params.types.data()) != 1) {
            lose(one_line(PQerrorMessage(handle_.get())));
        }
        statement.is_prepared = true;  // taken back when the answer says otherwise
        queued_.push_back({&statement});
    }
    if (PQsendQueryPrepared(handle_.get(), statement.name.c_str(), params.count(), params.values.data(),
                            params.lengths.data(), params.formats.data(), 1) != 1) {
        lose(one_line(PQerrorMessage(handle_.get())));
    }
    queued_.push_back({});
    return tickets_++;
}

void PgConnection::wait_for_input(Clock::time_point deadline) {
    for (;;) {
        int unsent = PQflush(handle_.get());
        if (unsent < 0) lose(one_line(PQerrorMessage(handle_.get())));
        auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
        if (left <= 0) lose("no answer in time");
        pollfd ready{PQsocket(handle_.get()), static_cast<short>(unsent > 0 ? POLLIN | POLLOUT : POLLIN), 0};
        int count = ::poll(&ready, 1, static_cast<int>(std::min<std::int64_t>(left, 1'000'000)));
        if (count < 0 && errno != EINTR) lose("poll: " + std::generic_category().message(errno));
        if (count > 0 && (ready.revents & ~POLLOUT) != 0) return;
    }
}

PGresult* PgConnection::next_result(Clock::time_point deadline) {
    while (PQisBusy(handle_.get()) == 1) {
        wait_for_input(deadline);
        if (PQconsumeInput(handle_.get()) != 1) lose(one_line(PQerrorMessage(handle_.get())));
    }
    return PQgetResult(handle_.get());
}

// The answers of everything that is queued, up to the sync point.
void PgConnection::collect(Clock::time_point deadline, std::optional<PgError>& failure) {
    for (const Queued& command : queued_) {
        PgResult result;
        while (PGresult* raw = next_result(deadline)) {
            PgResult part(raw);
            ExecStatusType status = PQresultStatus(raw);
            if (status == PGRES_FATAL_ERROR && !failure) failure = error_of(raw);
            if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && command.prepares != nullptr) {
                command.prepares->is_prepared = false;
            }
            result = std::move(part);
        }
        if (result.raw() == nullptr) lose(one_line(PQerrorMessage(handle_.get())));
        if (command.prepares == nullptr) results_.push_back(std::move(result));
        // FATAL ends the session: no sync point follows.
        if (PQstatus(handle_.get()) != CONNECTION_OK) return;
    }
    PgResult sync(next_result(deadline));
    if (sync.raw() == nullptr || PQresultStatus(sync.raw()) != PGRES_PIPELINE_SYNC) {
        if (!failure) lose(one_line(PQerrorMessage(handle_.get())));
        forget();
    }
}

void PgConnection::flush() {
    if (handle_ == nullptr) throw PgError({ErrorCode::kUnavailable, "PostgreSQL: not connected"});
    results_.clear();
    results_.reserve(tickets_);
    if (queued_.empty()) return;
    if (PQpipelineSync(handle_.get()) != 1) lose(one_line(PQerrorMessage(handle_.get())));
    std::optional<PgError> failure;
    collect(Clock::now() + kAnswerTimeout, failure);
    queued_.clear();
    tickets_ = 0;
    if (handle_ != nullptr && PQstatus(handle_.get()) != CONNECTION_OK) {
        std::string why = failure ? failure->error.message : one_line(PQerrorMessage(handle_.get()));
        forget();
        throw PgError({ErrorCode::kUnavailable, std::move(why)}, failure ? failure->sqlstate : "");
    }
    if (!failure) return;
    // The server has become a standby, or somebody has made it read-only: another of the URL's may be the one to ask.
    if (failure->sqlstate == kReadOnlyTransaction && !target_.read_only) forget();
    throw PgError(std::move(*failure));
}

void PgConnection::execute_script(std::string_view sql) {
    flush();
    if (PQexitPipelineMode(handle_.get()) != 1 || PQsendQuery(handle_.get(), std::string(sql).c_str()) != 1) {
        lose(one_line(PQerrorMessage(handle_.get())));
    }
    std::optional<PgError> failure;
    auto deadline = Clock::now() + kScriptTimeout;
    while (PGresult* raw = next_result(deadline)) {
        PgResult part(raw);
        if (PQresultStatus(raw) == PGRES_FATAL_ERROR && !failure) failure = error_of(raw);
    }
    if (PQstatus(handle_.get()) != CONNECTION_OK || PQenterPipelineMode(handle_.get()) != 1) {
        lose(failure ? failure->error.message : one_line(PQerrorMessage(handle_.get())));
    }
    if (failure) throw PgError(std::move(*failure));
}

bool PgConnection::in_transaction() const noexcept {
    return handle_ != nullptr && PQtransactionStatus(handle_.get()) != PQTRANS_IDLE;
}

void PgConnection::roll_back() noexcept {
    if (handle_ == nullptr) return;
    try {
        // What is queued but not sent would run first: its answers are of no interest, and the transaction ends anyway.
        try {
            flush();
        } catch (const PgError&) {
        }
        if (in_transaction()) (void)query("ROLLBACK");
    } catch (...) {
        forget();
    }
}

}  // namespace headgate
