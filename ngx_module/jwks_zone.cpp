// See jwks_zone.h.
#include "ngx_module/jwks_zone.h"

#include <algorithm>

#include "common/limits.h"

namespace headgate::edge {

JwksSlot* JwksShared::find(const KeyDigest& identity) noexcept {
    for (JwksSlot& slot : slots) {
        if (slot.text != nullptr && slot.identity == identity) {
            return &slot;
        }
    }
    return nullptr;
}

bool JwksShared::reserve(ZoneCache& cache, const std::vector<std::unique_ptr<RemoteKeys>>& sources) noexcept {
    const auto is_named = [&sources](const JwksSlot& slot) {
        return std::any_of(sources.begin(), sources.end(),
                           [&slot](const auto& source) { return source->identity == slot.identity; });
    };
    for (const auto& source : sources) {
        if (JwksSlot* known = find(source->identity); known != nullptr) {
            known->schedule.forced = true;
            continue;
        }
        // A free slot, else one that the new configuration does not name: workers of the old one no longer find theirs,
        // and stay with the keys that they have.
        JwksSlot* slot = std::find_if(std::begin(slots), std::end(slots),
                                      [](const JwksSlot& candidate) { return candidate.text == nullptr; });
        if (slot == std::end(slots)) {
            slot = std::find_if_not(std::begin(slots), std::end(slots), is_named);
        }
        if (slot == std::end(slots)) {
            return false;
        }
        u_char* text =
            slot->text != nullptr ? slot->text : static_cast<u_char*>(cache.allocate_beside(limits::kKeySetBytesMax));
        if (text == nullptr) {
            return false;
        }
        *slot = {};
        slot->identity = source->identity;
        slot->text = text;
    }
    changed();
    return true;
}

}  // namespace headgate::edge
