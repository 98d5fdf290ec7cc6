// Fills the event streams as the edge would: the same fields in the same order, the same shards. The
// drain rows start from what this leaves behind.
//
// Input: a port of Redis on loopback, an organization, a number of events and a file with one JSON
// payload per line (used in turn). Output: that many entries in headgate:{…}:events, and the number on
// standard output. Next: lib/Headgate/Bench/Drain.pm.
#include <hiredis/hiredis.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "common/event_id.h"
#include "common/event_record.h"
#include "common/limits.h"
#include "common/resp.h"

namespace {

using namespace headgate;

constexpr int kPipelineCommands = 256;

struct RedisCloser {
    void operator()(redisContext* context) const { redisFree(context); }
    void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using Connection = std::unique_ptr<redisContext, RedisCloser>;
using Reply = std::unique_ptr<redisReply, RedisCloser>;

struct Arguments {
    int redis_port = 0;
    std::string org, type;
    int events = 0;
    int shards = 0;
    std::string payloads_file;
};

int parse_number(std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value <= 0) {
        throw std::invalid_argument("not a positive number: " + std::string(text));
    }
    return value;
}

Arguments parse_arguments(int argc, char** argv) {
    if (argc != 7) {
        throw std::invalid_argument("usage: load_events REDIS_PORT ORG TYPE EVENTS SHARDS PAYLOADS_FILE");
    }
    return {parse_number(argv[1]), argv[2], argv[3], parse_number(argv[4]), parse_number(argv[5]), argv[6]};
}

std::vector<std::string> read_lines(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) {
        lines.push_back(line);
    }
    if (lines.empty()) {
        throw std::runtime_error(path + ": no payloads");
    }
    return lines;
}

Connection connect(int port) {
    Connection connection(redisConnect("127.0.0.1", port));
    if (!connection || connection->err != 0) {
        throw std::runtime_error(connection ? connection->errstr : "no memory");
    }
    return connection;
}

void append_event(std::string& out, const Arguments& arguments, std::string_view payload) {
    const std::int64_t now_ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
    const std::string id = uuid7(now_ms);
    const std::string stream = stream_key(kDefaultKeyPrefix, shard_of(arguments.org, id, arguments.shards));
    const auto name = [](EventField field) { return kEventFieldNames[static_cast<std::size_t>(field)]; };
    RespWriter(out).command("XADD", stream, "*",                                                            //
                            name(EventField::kV), static_cast<long long>(limits::kContractVersion),         //
                            name(EventField::kId), id, name(EventField::kOrg), arguments.org,               //
                            name(EventField::kKey), "bench", name(EventField::kType), arguments.type,       //
                            name(EventField::kSource), "bench", name(EventField::kPayload), payload,        //
                            name(EventField::kOrd), "", name(EventField::kTp), "", name(EventField::kVia),  //
                            "api", name(EventField::kAt), static_cast<long long>(now_ms));
}

void expect_entry_id(redisContext* connection) {
    void* raw = nullptr;
    if (redisGetReply(connection, &raw) != REDIS_OK) {
        throw std::runtime_error(connection->errstr);
    }
    const Reply reply(static_cast<redisReply*>(raw));
    if (reply->type == REDIS_REPLY_ERROR) {
        throw std::runtime_error(reply->str);
    }
}

void load(const Arguments& arguments) {
    const std::vector<std::string> payloads = read_lines(arguments.payloads_file);
    const Connection connection = connect(arguments.redis_port);
    for (int sent = 0; sent < arguments.events;) {
        const int first = sent;
        for (; sent < arguments.events && sent - first < kPipelineCommands; ++sent) {
            std::string command;
            append_event(command, arguments, payloads[static_cast<std::size_t>(sent) % payloads.size()]);
            if (redisAppendFormattedCommand(connection.get(), command.data(), command.size()) != REDIS_OK) {
                throw std::runtime_error(connection->errstr);
            }
        }
        for (int i = first; i < sent; ++i) {
            expect_entry_id(connection.get());
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const Arguments arguments = parse_arguments(argc, argv);
        load(arguments);
        std::printf("%d\n", arguments.events);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "load_events: %s\n", error.what());
        return 1;
    }
}
