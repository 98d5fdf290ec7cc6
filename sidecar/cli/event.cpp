// headgate event send: publish one event through the edge. The other commands about events: event_list.cpp,
// event_replay.cpp, event_explain.cpp.
#include <curl/curl.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

#include "common/problem.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"

namespace headgate {
namespace {

constexpr std::size_t kAnswerBytesMax = 1024 * 1024;
constexpr long kTimeoutSeconds = 30;

struct SendOptions {
    std::string url, key, type, source, payload, idempotency_key, ordering_key;
};

struct CurlDeleter {
    void operator()(CURL* handle) const noexcept { curl_easy_cleanup(handle); }
    void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
};

std::size_t append_answer(char* data, std::size_t, std::size_t bytes, void* out) {
    auto& answer = *static_cast<std::string*>(out);
    if (answer.size() + bytes > kAnswerBytesMax) return 0;
    answer.append(data, bytes);
    return bytes;
}

Result<std::string> read_payload(const std::string& option) {
    if (option != "-" && !option.starts_with('@')) return option;
    if (option == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
    std::ifstream file(option.substr(1), std::ios::binary);
    if (!file) return fail(ErrorCode::kNotFound, "--payload: cannot read " + option.substr(1));
    return std::string(std::istreambuf_iterator<char>(file), {});
}

// The payload travels as the bytes that were given.
std::string build_event(const SendOptions& options, const std::string& payload) {
    std::string body = "{\"type\":";
    append_json_string(body, options.type);
    body += ",\"source\":";
    append_json_string(body, options.source);
    if (!options.ordering_key.empty()) {
        body += ",\"ordering_key\":";
        append_json_string(body, options.ordering_key);
    }
    return body + ",\"payload\":" + payload + "}";
}

struct Answer {
    long status = 0;
    std::string body;
};

Result<Answer> post(const SendOptions& options, const std::string& body) {
    std::unique_ptr<CURL, CurlDeleter> curl(curl_easy_init());
    if (!curl) return fail(ErrorCode::kInternal, "libcurl cannot be started");
    std::string url = options.url;
    while (url.ends_with('/')) url.pop_back();
    if (!url.ends_with("/events")) url += "/events";
    curl_slist* list = curl_slist_append(nullptr, "Content-Type: application/json");
    list = curl_slist_append(list, ("X-API-Key: " + options.key).c_str());
    if (!options.idempotency_key.empty())
        list = curl_slist_append(list, ("Idempotency-Key: " + options.idempotency_key).c_str());
    std::unique_ptr<curl_slist, CurlDeleter> headers(list);
    Answer answer;
    curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, append_answer);
    curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &answer.body);
    curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, kTimeoutSeconds);
    curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
    CURLcode code = curl_easy_perform(curl.get());
    if (code != CURLE_OK) return fail(ErrorCode::kUnavailable, url + ": " + curl_easy_strerror(code));
    curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &answer.status);
    return answer;
}

std::string problem_text(const Answer& answer) {
    std::string text = "the edge answered " + std::to_string(answer.status);
    boost::system::error_code ec;
    auto problem = boost::json::parse(answer.body, ec);
    if (ec || !problem.is_object()) return text;
    if (const auto* detail = problem.get_object().if_contains("detail"); detail != nullptr && detail->is_string())
        text += ": " + std::string(detail->get_string().data(), detail->get_string().size());
    const auto* errors = problem.get_object().if_contains("errors");
    if (errors == nullptr || !errors->is_array()) return text;
    for (const auto& error : errors->get_array()) {
        const auto* msg = error.is_object() ? error.get_object().if_contains("msg") : nullptr;
        if (msg != nullptr && msg->is_string())
            text += "\n  " + std::string(msg->get_string().data(), msg->get_string().size());
    }
    return text;
}

Result<void> send(const Invocation& invocation, const SendOptions& options) {
    auto payload = read_payload(options.payload);
    if (!payload) return tl::unexpected(payload.error());
    auto answer = post(options, build_event(options, *payload));
    if (!answer) return tl::unexpected(answer.error());
    if (answer->status != 201 && answer->status != 200) return fail(ErrorCode::kUnavailable, problem_text(*answer));
    boost::system::error_code ec;
    auto record = boost::json::parse(answer->body, ec);
    if (ec || !record.is_object() || !record.get_object().contains("id"))
        return fail(ErrorCode::kCorrupt, "the edge answered " + std::to_string(answer->status) +
                                             " without an event id; is --url that of nginx with headgate_publish?");
    print_record(invocation.json, record.get_object());
    return {};
}

}  // namespace

void add_event(CLI::App& root, Invocation& invocation) {
    auto* event = root.add_subcommand("event", "events")->require_subcommand(1);
    auto options = std::make_shared<SendOptions>();
    auto* command = event->add_subcommand("send", "publish an event through the edge");
    command->add_option("--url", options->url, "nginx: http://host:port")->required();
    command->add_option("--key", options->key, "an API key with the scope events:write")
        ->required()
        ->envname("HEADGATE_API_KEY");
    command->add_option("--type", options->type, "such as order.created")->required();
    command->add_option("--source", options->source, "who says so")->required();
    command->add_option("--payload", options->payload, "a JSON object, @file, or - for standard input")->required();
    command->add_option("--idempotency-key", options->idempotency_key, "the same key again publishes nothing new");
    command->add_option("--ordering-key", options->ordering_key, "events with the same key keep their order");
    command->callback(
        [&invocation, options] { invocation.action = [&invocation, options] { return send(invocation, *options); }; });
    add_event_list(*event, invocation);
    add_event_replay(*event, invocation);
    add_event_explain(*event, invocation);
}

}  // namespace headgate
