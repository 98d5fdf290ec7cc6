// headgate event replay: send again what a webhook missed; and steer the replays that run.
#include <unistd.h>

#include <boost/json.hpp>
#include <chrono>
#include <iostream>
#include <thread>

#include "common/event_id.h"
#include "sidecar/api/recovery.h"
#include "sidecar/api/recovery_json.h"
#include "sidecar/base/text.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"
#include "sidecar/cli/recovery_options.h"

namespace headgate {
namespace json = boost::json;
namespace {

constexpr std::chrono::milliseconds kWatchInterval{200};

struct ReplayOptions {
    std::string org, webhook, since, until, which = "missing", timeout = "1h";
    std::string list, show, pause, resume, cancel;  // of which webhook, or which replay
    bool is_dry_run = false, waits = false;
};

void print_progress(const Replay& replay, bool is_terminal) {
    std::cerr << (is_terminal ? "\r" : "") << "replay " << replay.state << ": made " << replay.made << " of "
              << replay.total << ", succeeded " << replay.succeeded << ", failed " << replay.failed
              << (is_terminal ? "   " : "\n");
    std::cerr.flush();
}

// Until everything that it makes has ended, or it was cancelled.
Result<Replay> wait_for(Store& store, Replay replay, std::int64_t timeout_ms) {
    const bool is_terminal = isatty(STDERR_FILENO) == 1;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    Replay printed;
    printed.made = -1;
    for (;;) {
        if (replay.made != printed.made || replay.succeeded != printed.succeeded || replay.failed != printed.failed ||
            replay.state != printed.state) {
            print_progress(replay, is_terminal);
            printed = replay;
        }
        const bool has_ended =
            replay.state == "cancelled" || (replay.state == "done" && replay.succeeded + replay.failed >= replay.made);
        const bool is_late = std::chrono::steady_clock::now() >= deadline;
        if ((has_ended || is_late) && is_terminal) std::cerr << "\n";
        if (has_ended) return replay;
        if (is_late) {
            return fail(ErrorCode::kUnavailable, "replay " + replay.id +
                                                     " has not ended in time, and goes on; `headgate "
                                                     "event replay --show " +
                                                     replay.id + "` tells how far it is");
        }
        std::this_thread::sleep_for(kWatchInterval);
        auto now = store.get_replay(replay.org, replay.id);
        if (!now) return now;
        replay = std::move(*now);
    }
}

Result<Replay> describe(const ReplayOptions& options, const std::string& org) {
    const TimeMs now = wall_clock_ms();
    if (options.webhook.empty() || options.since.empty()) {
        return fail(ErrorCode::kInvalidArgument, "--webhook and --since say what is to be replayed");
    }
    auto since = time_option("--since", options.since, now);
    if (!since) return tl::unexpected(since.error());
    Result<TimeMs> until = now + 1;
    if (!options.until.empty()) until = time_option("--until", options.until, now);
    if (!until) return tl::unexpected(until.error());
    if (*since >= *until) return fail(ErrorCode::kInvalidArgument, "--since must be before --until");
    Replay replay;
    replay.id = uuid7(now);
    replay.org = org;
    replay.webhook_id = options.webhook;
    replay.since = *since;
    replay.until = *until;
    replay.which = options.which;
    replay.created_at = replay.updated_at = now;
    return replay;
}

Result<void> start(const Invocation& invocation, Store& store, const ReplayOptions& options) {
    auto timeout_ms = parse_duration_ms(options.timeout);
    if (!timeout_ms) return fail(ErrorCode::kInvalidArgument, "--timeout must be a duration such as 90s or 1h");
    auto described = in_org_or_any(store, options.org, [&](const std::string& org) -> Result<Replay> {
        auto webhook = store.get_webhook(org, options.webhook);
        if (!webhook) return tl::unexpected(webhook.error());
        return describe(options, org);
    });
    if (!described) return tl::unexpected(described.error());
    if (options.is_dry_run) {
        auto total = count_replay_now(store, *described);
        if (!total) return tl::unexpected(total.error());
        json::object record;
        record.emplace("webhook_id", described->webhook_id);
        record.emplace("which", described->which);
        record.emplace("total", *total);
        record.emplace("dry_run", true);
        print_record(invocation.json, record);
        return {};
    }
    auto replay = start_replay(store, *described);
    if (replay && options.waits) replay = wait_for(store, std::move(*replay), *timeout_ms);
    if (!replay) return tl::unexpected(replay.error());
    print_record(invocation.json, replay_json(*replay));
    if (options.waits && (replay->failed > 0 || replay->state == "cancelled")) {
        return fail(ErrorCode::kUnavailable, "the replay has ended, " + std::to_string(replay->failed) + " of " +
                                                 std::to_string(replay->made) + " deliveries failed, state " +
                                                 replay->state);
    }
    return {};
}

Result<void> run(const Invocation& invocation, const ReplayOptions& options) {
    // Before anything is opened: the words may be wrong.
    const bool steers = !options.list.empty() || !options.show.empty() || !options.pause.empty() ||
                        !options.resume.empty() || !options.cancel.empty();
    if (!steers) {
        auto checked = describe(options, {});
        if (!checked) return tl::unexpected(checked.error());
    }
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    Store& store = *opened->store;
    if (!steers) return start(invocation, store, options);
    if (!options.list.empty()) {
        auto replays = in_org_or_any(store, options.org, [&](const std::string& org) -> Result<std::vector<Replay>> {
            auto webhook = store.get_webhook(org, options.list);
            if (!webhook) return tl::unexpected(webhook.error());
            return store.list_replays(org, options.list);
        });
        if (!replays) return tl::unexpected(replays.error());
        json::array rows;
        for (const auto& replay : *replays) rows.push_back(replay_json(replay));
        print_table(invocation.json,
                    {"id", "which", "since", "until", "state", "total", "made", "succeeded", "failed", "created_at"},
                    rows);
        return {};
    }
    auto replay = in_org_or_any(store, options.org, [&](const std::string& org) -> Result<Replay> {
        const TimeMs now = wall_clock_ms();
        if (!options.pause.empty()) return store.set_replay_state(org, options.pause, "paused", now);
        if (!options.resume.empty()) return store.set_replay_state(org, options.resume, "running", now);
        if (!options.cancel.empty()) return store.set_replay_state(org, options.cancel, "cancelled", now);
        return store.get_replay(org, options.show);
    });
    if (!replay) return tl::unexpected(replay.error());
    print_record(invocation.json, replay_json(*replay));
    return {};
}

}  // namespace

void add_event_replay(CLI::App& event, Invocation& invocation) {
    auto options = std::make_shared<ReplayOptions>();
    auto* command = event.add_subcommand("replay", "send again what a webhook missed");
    auto* webhook = command->add_option("--webhook", options->webhook, "the webhook's id");
    auto* since =
        command->add_option("--since", options->since, "events since a time (RFC 3339), or so long ago (24h)");
    webhook->needs(since);
    since->needs(webhook);
    command->add_option("--until", options->until, "and before this one (default: now)")->needs(webhook);
    command->add_option("--which", options->which, "missing: has no delivery; failed: it is dead or cancelled; all")
        ->check(CLI::IsMember({"missing", "failed", "all"}))
        ->capture_default_str();
    command->add_option("--org", options->org, "the organization (default: the one that has the webhook)");
    command->add_flag("--dry-run", options->is_dry_run, "only count")->needs(webhook);
    command->add_flag("--wait", options->waits, "until everything is sent; exits with 1 when some of it failed")
        ->needs(webhook);
    command->add_option("--timeout", options->timeout, "of --wait")->capture_default_str();
    auto* one_of = command->add_option_group("steer", "instead of starting one");
    one_of->add_option("--list", options->list, "the replays of a webhook, newest first");
    one_of->add_option("--show", options->show, "how far a replay is");
    one_of->add_option("--pause", options->pause, "a replay makes nothing more until it is resumed");
    one_of->add_option("--resume", options->resume, "a replay goes on");
    one_of->add_option("--cancel", options->cancel, "a replay ends; what it has made is still sent");
    for (auto* option : one_of->get_options()) option->excludes(webhook);
    one_of->require_option(0, 1);
    command->callback([&invocation, options, webhook, one_of] {
        if (webhook->count() == 0 && one_of->count_all() == 0) {
            throw CLI::RequiredError("--webhook with --since, or one of --list, --show, --pause, --resume, --cancel");
        }
        invocation.action = [&invocation, options] { return run(invocation, *options); };
    });
}

}  // namespace headgate
