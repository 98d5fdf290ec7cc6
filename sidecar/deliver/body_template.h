// A webhook's own form of its bodies: text with placeholders, and no logic. Pure.
// Input: `body_template` and an Event. Next file: body.h.
//
//   {"text": "{{type}}: {{payload.customer.name}} paid", "order": {{payload}}, "first": {{payload.items.0.sku}}}
//
// A placeholder names id, type, created (Unix seconds), timestamp (RFC 3339), source, organization_id, ordering_key, or
// payload with a path into it. What it becomes depends on where it stands:
//   in a JSON string      the value's text, escaped: of a string what it says, of an object or array its JSON
//   elsewhere in JSON     the value as it came, a string with its quotes
//   in a form             the value's text, percent-encoded
// What is missing or null is null outside of strings, and nothing inside of them and in forms. There are no sections,
// partials, comments or unescaped values: a template that has any is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "sidecar/deliver/json_slices.h"
#include "sidecar/store/rows.h"

namespace headgate {

enum class BodySyntax : std::uint8_t { kJson, kForm };

class BodyTemplate {
 public:
    // At most limits::kBodyTemplateBytesMax and kBodyTemplatePlaceholdersMax. A JSON template must be JSON whatever its
    // placeholders become, a form one must have only what a form may have. kUnprocessable tells where and why.
    [[nodiscard]] static Result<BodyTemplate> compile(std::string text, BodySyntax syntax);

    // At most limits::kBodyTemplateOutputBytesMax. kTooLarge; kCorrupt when the payload is not JSON.
    [[nodiscard]] Result<std::string> render(const Event& event) const;

    [[nodiscard]] const std::string& text() const noexcept { return text_; }
    [[nodiscard]] BodySyntax syntax() const noexcept { return syntax_; }

    enum class Source : std::uint8_t {
        kPayload,
        kId,
        kType,
        kCreated,
        kTimestamp,
        kSource,
        kOrganizationId,
        kOrderingKey
    };
    struct Placeholder {
        std::size_t begin = 0, end = 0;  // in the text, braces included
        Source source = Source::kPayload;
        std::size_t path = 0;  // of kPayload: its number in the paths
        bool is_in_string = false;
    };

 private:
    BodyTemplate() = default;

    std::string text_;
    BodySyntax syntax_ = BodySyntax::kJson;
    std::vector<Placeholder> placeholders_;
    JsonPaths paths_;
    friend class TemplateCompiler;
};

}  // namespace headgate
