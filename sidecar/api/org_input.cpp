// Making organizations; see org_input.h.
#include "sidecar/api/org_input.h"

#include "common/event_id.h"
#include "common/event_record.h"

namespace headgate {
namespace {

constexpr std::size_t kNameBytesMax = 128;

}  // namespace

Result<Organization> create_named_org(Store& store, std::string_view name, std::string_view plan,
                                      std::vector<std::string> allow_networks, TimeMs now) {
    if (name.empty() || name.size() > kNameBytesMax || has_control_characters(name))
        return fail(ErrorCode::kUnprocessable, "the name of an organization must have 1 to " +
                                                   std::to_string(kNameBytesMax) + " bytes and no control characters");
    auto orgs = store.list_orgs();
    if (!orgs) return tl::unexpected(orgs.error());
    for (const auto& org : *orgs)
        if (org.name == name)
            return fail(ErrorCode::kConflict,
                        "there is an organization \"" + org.name + "\" already (" + org.id + "); choose another name");
    Organization org;
    org.id = uuid7(now);
    org.name = name;
    org.plan = plan;
    org.allow_networks = std::move(allow_networks);
    org.created_at = org.updated_at = now;
    auto created = store.create_org(org);
    if (!created) return tl::unexpected(created.error());
    return org;
}

}  // namespace headgate
