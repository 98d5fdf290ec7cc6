// Every maximum that crosses a process, with its unit last in the name.
#pragma once

#include <cstddef>
#include <cstdint>

namespace headgate::limits {

// Events, as the edge accepts them and the sidecar stores them.
inline constexpr std::size_t kEventBytesMax = 1024 * 1024;  // default of headgate_event_max_size
inline constexpr std::size_t kEventTypeBytesMax = 128;
inline constexpr std::size_t kEventSourceBytesMax = 256;
inline constexpr std::size_t kOrderingKeyBytesMax = 256;
inline constexpr int kJsonDepthMax = 64;
inline constexpr std::size_t kEventTopLevelMembersMax = 1024;
inline constexpr std::size_t kScanBufferBytes = 32 * 1024;  // one per worker, for spooled bodies

inline constexpr int kBatchEventsMax = 1000;                        // default of headgate_batch_max_events
inline constexpr int kBacklogMax = 100'000;                         // default of headgate_publish_backlog, entries
inline constexpr int kBacklogMemoryPercentMax = 80;                 // of maxmemory
inline constexpr std::int64_t kIdempotencyMs = 24LL * 3600 * 1000;  // default of headgate_idempotency_ttl
inline constexpr std::size_t kIdempotencyKeyBytesMax = 255;

// Credentials.
inline constexpr std::size_t kTokenBytesMax = 8 * 1024;
inline constexpr int kTokenJsonDepthMax = 10;
inline constexpr std::size_t kSecretFileBytesMax = 64 * 1024;
inline constexpr std::size_t kSecretBytesMin = 32;  // HS256: never shorter than the hash (RFC 7518, 3.2)
inline constexpr std::size_t kKeyIdBytesMax = 128;
inline constexpr std::size_t kKeySetBytesMax = 64 * 1024;  // of a JWKS or PEM file's text
inline constexpr std::size_t kKeySetKeysMax = 100;
inline constexpr std::size_t kTokenKeysTriedMax = 8;  // to verify one token
inline constexpr std::size_t kRsaBitsMin = 2048;      // RFC 7518, 3.3
inline constexpr std::size_t kRsaBitsMax = 16384;     // what OpenSSL verifies at most
inline constexpr std::size_t kScopesMax = 64;
inline constexpr std::size_t kScopeBytesMax = 64;
inline constexpr std::size_t kAllowedIpsMax = 64;
inline constexpr std::size_t kOrgIdBytesMax = 64;
inline constexpr std::int64_t kTokenIatSlackSeconds = 30;

// Rate limits.
inline constexpr std::size_t kWindowsPerPlanMax = 4;   // second, minute, hour, day
inline constexpr std::size_t kLimitKeyBytesMax = 128;  // longer values are hashed
inline constexpr std::int64_t kRateQuotaMax = 1'000'000'000;

// Streams.
inline constexpr int kShardsMax = 1024;
inline constexpr int kShardsDefault = 8;
inline constexpr int kShardsClusterDefault = 64;
inline constexpr int kContractVersion = 1;
inline constexpr std::size_t kStreamReplyBytesMax = 16 * 1024 * 1024;

// Webhooks.
inline constexpr std::size_t kWebhookUrlBytesMax = 2048;
inline constexpr std::size_t kWebhookEventsMax = 64;
inline constexpr std::size_t kWebhookHeadersMax = 32;
inline constexpr std::size_t kWebhookHeaderBytesMax = 1024;
inline constexpr std::size_t kWebhookNameBytesMax = 128;
inline constexpr std::size_t kWebhookSecretBytesMin = 16;
inline constexpr std::size_t kWebhookSecretBytesMax = 256;
inline constexpr std::size_t kWebhookSecretsMax = 4;  // valid at once, while rotating
inline constexpr std::size_t kBodyTemplateBytesMax = 16 * 1024;
inline constexpr std::size_t kBodyTemplatePlaceholdersMax = 200;
inline constexpr std::size_t kBodyTemplateOutputBytesMax = 1024 * 1024;
inline constexpr int kWebhookRetriesMax = 30;
inline constexpr std::int64_t kRetryDelayMsMax = 7LL * 24 * 3600 * 1000;
inline constexpr std::int64_t kRetryAfterMsMax = 24LL * 3600 * 1000;
inline constexpr std::int64_t kDeliveryTimeoutMsDefault = 30'000;
inline constexpr std::int64_t kDeliveryTimeoutMsMax = 60'000;
inline constexpr std::int64_t kConnectTimeoutMs = 5'000;
inline constexpr int kWebhookInFlightDefault = 16;
inline constexpr std::size_t kResponseKeptBytesMax = 64 * 1024;
inline constexpr std::size_t kResponseReadBytesMax = 1024 * 1024;
inline constexpr std::size_t kResponseHeaderBytesMax = 64 * 1024;

// The management API.
inline constexpr std::size_t kApiBodyBytesMax = 1024 * 1024;
inline constexpr std::size_t kApiHeaderBytesMax = 32 * 1024;
inline constexpr int kListLimitMax = 200;
inline constexpr int kListLimitDefault = 50;
inline constexpr int kInboxLimitDefault = 100;
inline constexpr int kListOffsetMax = 10'000;

}  // namespace headgate::limits
