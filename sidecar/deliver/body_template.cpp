// Compiles and renders body_template.h.
#include "sidecar/deliver/body_template.h"

#include <algorithm>
#include <boost/json.hpp>
#include <optional>
#include <utility>

#include "common/json_bytes.h"
#include "common/limits.h"
#include "common/problem.h"
#include "common/rfc3339.h"
#include "sidecar/base/text.h"

namespace headgate {

namespace {

using Source = BodyTemplate::Source;

constexpr std::size_t kPathBytesMax = 256;
constexpr std::pair<std::string_view, Source> kSources[] = {
    {"payload", Source::kPayload},
    {"id", Source::kId},
    {"type", Source::kType},
    {"created", Source::kCreated},
    {"timestamp", Source::kTimestamp},
    {"source", Source::kSource},
    {"ordering_key", Source::kOrderingKey},
    {"organization_id", Source::kOrganizationId},
};

using json_bytes::is_hex;

// Letters, digits and what names of members have in practice; everything beyond ASCII.
bool is_path_character(char c) noexcept {
    return is_hex(c) || (c >= 'g' && c <= 'z') || (c >= 'G' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80 ||
           std::string_view("_-$@:").find(c) != std::string_view::npos;
}

// What stands in forms as they are sent (WHATWG URL, "application/x-www-form-urlencoded serializing", and what parsers
// take besides); a percent sign is looked at by itself.
bool is_form_character(char c) noexcept {
    return is_hex(c) || (c >= 'g' && c <= 'z') || (c >= 'G' && c <= 'Z') ||
           std::string_view("-._~*+=&!$'(),/:;?@[]").find(c) != std::string_view::npos;
}

std::string_view trimmed(std::string_view text) noexcept {
    while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
    while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
    return text;
}

// What append_json_string() writes, without the quotes.
void append_inside_string(std::string& out, std::string_view text) {
    const std::size_t quote = out.size();
    append_json_string(out, text);
    out.erase(quote, 1);
    out.pop_back();
}

}  // namespace

// ---- compiling ------------------------------------------------------------------------------

class TemplateCompiler {
 public:
    explicit TemplateCompiler(BodyTemplate& made) : made_(made), text_(made.text_) {}

    Result<void> run() {
        if (text_.size() > limits::kBodyTemplateBytesMax) {
            return fail(ErrorCode::kUnprocessable,
                        "longer than " + std::to_string(limits::kBodyTemplateBytesMax) + " bytes");
        }
        if (trimmed(text_).empty()) {
            return fail(ErrorCode::kUnprocessable, "empty");
        }
        if (auto read = read_placeholders(); !read) {
            return read;
        }
        return made_.syntax_ == BodySyntax::kJson ? check_json() : check_form();
    }

 private:
    // Lines and columns are counted from 1, columns in bytes.
    [[nodiscard]] tl::unexpected<Error> refuse(std::size_t at, std::string_view why) const {
        at = std::min(at, text_.size());
        const auto line = std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(at), '\n') + 1;
        const std::size_t newline = at == 0 ? std::string::npos : text_.rfind('\n', at - 1);
        const std::size_t column = newline == std::string::npos ? at + 1 : at - newline;
        return fail(ErrorCode::kUnprocessable,
                    "line " + std::to_string(line) + ", column " + std::to_string(column) + ": " + std::string(why));
    }

    Result<void> read_placeholders() {
        std::size_t from = 0;
        for (;;) {
            const std::size_t begin = text_.find("{{", from);
            follow_strings(from, std::min(begin, text_.size()));
            if (begin == std::string::npos) {
                return {};
            }
            if (made_.placeholders_.size() == limits::kBodyTemplatePlaceholdersMax) {
                return refuse(begin,
                              "more than " + std::to_string(limits::kBodyTemplatePlaceholdersMax) + " placeholders");
            }
            const std::size_t end = text_.find("}}", begin + 2);
            if (end == std::string::npos) {
                return refuse(begin, "{{ without }}");
            }
            auto added = add_placeholder(begin, end + 2, std::string_view(text_).substr(begin + 2, end - begin - 2));
            if (!added) {
                return added;
            }
            from = end + 2;
        }
    }

    // Is the end of what stands between two placeholders inside a JSON string?
    void follow_strings(std::size_t from, std::size_t to) noexcept {
        for (std::size_t i = from; i < to; ++i) {
            if (std::exchange(is_escaped_, false)) {
                continue;
            }
            if (text_[i] == '"') {
                is_in_string_ = !is_in_string_;
            }
            is_escaped_ = is_in_string_ && text_[i] == '\\';
        }
    }

    Result<void> add_placeholder(std::size_t begin, std::size_t end, std::string_view inside) {
        if (!inside.empty() && std::string_view("#^/>!&={").find(inside.front()) != std::string_view::npos) {
            return refuse(begin, "only {{name}} is known: no sections, partials, comments or unescaped values");
        }
        const std::string_view path = trimmed(inside);
        if (path.size() > kPathBytesMax) {
            return refuse(begin, "a path longer than " + std::to_string(kPathBytesMax) + " bytes");
        }
        std::vector<std::string_view> segments;
        for (std::size_t at = 0; at <= path.size();) {
            const std::size_t dot = std::min(path.find('.', at), path.size());
            const std::string_view segment = path.substr(at, dot - at);
            if (segment.empty() || !std::all_of(segment.begin(), segment.end(), is_path_character)) {
                return refuse(begin, "a placeholder is {{name}} or {{payload.path.to.field}}");
            }
            segments.push_back(segment);
            at = dot + 1;
        }
        const auto found = std::find_if(std::begin(kSources), std::end(kSources),
                                        [&](const auto& source) { return source.first == segments.front(); });
        if (found == std::end(kSources)) {
            std::vector<std::string_view> names;
            for (const auto& source : kSources) names.push_back(source.first);
            return refuse(begin, "there is no \"" + std::string(segments.front()) + "\"; the nearest known name is " +
                                     std::string(nearest(segments.front(), names)));
        }
        BodyTemplate::Placeholder placeholder{begin, end, found->second, 0, is_in_string_};
        if (placeholder.source == Source::kPayload) {
            placeholder.path = made_.paths_.add(std::span(segments).subspan(1));
        } else if (segments.size() > 1) {
            return refuse(begin, std::string(segments.front()) + " has no members");
        }
        made_.placeholders_.push_back(placeholder);
        return {};
    }

    // `null` stands where any value may stand and nowhere else, and no escape or half of a character goes on with an
    // `x`: if the text is JSON with these, it is JSON with whatever comes.
    Result<void> check_json() const {
        std::string sample;
        std::vector<std::pair<std::size_t, std::size_t>> origins;  // of a place in the sample, and there in the text
        std::size_t from = 0;
        for (const auto& placeholder : made_.placeholders_) {
            origins.emplace_back(sample.size(), from);
            sample.append(text_, from, placeholder.begin - from);
            origins.emplace_back(sample.size(), placeholder.begin);
            sample += placeholder.is_in_string ? "x" : "null";
            from = placeholder.end;
        }
        origins.emplace_back(sample.size(), from);
        sample.append(text_, from);
        boost::json::parse_options options;
        options.max_depth = limits::kJsonDepthMax;
        boost::json::stream_parser parser({}, options);
        boost::system::error_code error;
        const std::size_t read = parser.write_some(sample, error);
        if (!error && read == sample.size()) {
            parser.finish(error);
        } else if (!error) {
            error = boost::json::error::extra_data;
        }
        if (!error) {
            return {};
        }
        std::size_t at = 0;
        for (const auto& [in_sample, in_text] : origins) {
            if (in_sample <= read) {
                at = in_text + (read - in_sample);
            }
        }
        return refuse(at, "not JSON: " + error.message());
    }

    Result<void> check_form() const {
        std::size_t from = 0;
        for (std::size_t next = 0; next <= made_.placeholders_.size(); ++next) {
            const bool is_last = next == made_.placeholders_.size();
            const std::size_t to = is_last ? text_.size() : made_.placeholders_[next].begin;
            for (std::size_t i = from; i < to; ++i) {
                if (text_[i] == '%' && i + 2 < to && is_hex(text_[i + 1]) && is_hex(text_[i + 2])) {
                    continue;
                }
                if (!is_form_character(text_[i])) {
                    return refuse(i, "a form has this character percent-encoded only");
                }
            }
            from = is_last ? to : made_.placeholders_[next].end;
        }
        return {};
    }

    BodyTemplate& made_;
    const std::string& text_;
    bool is_in_string_ = false;
    bool is_escaped_ = false;
};

Result<BodyTemplate> BodyTemplate::compile(std::string text, BodySyntax syntax) {
    BodyTemplate made;
    made.text_ = std::move(text);
    made.syntax_ = syntax;
    if (auto compiled = TemplateCompiler(made).run(); !compiled) {
        return tl::unexpected(std::move(compiled.error()));
    }
    return made;
}

// ---- rendering ------------------------------------------------------------------------------

namespace {

// A member of the event, not of its payload; nullopt stands for none.
std::optional<std::string> text_of(const Event& event, Source source) {
    switch (source) {
        case Source::kId:
            return event.id;
        case Source::kType:
            return event.type;
        case Source::kCreated:
            return std::to_string(event.created_at / 1000);
        case Source::kTimestamp:
            return rfc3339_format(event.created_at);
        case Source::kSource:
            return event.source;
        case Source::kOrganizationId:
            return event.org;
        case Source::kOrderingKey:
        case Source::kPayload:
            break;
    }
    return event.ordering_key.empty() ? std::nullopt : std::optional(event.ordering_key);
}

enum class Place : std::uint8_t { kValue, kString, kForm };

void append_member(std::string& out, const Event& event, Source source, Place place) {
    const std::optional<std::string> text = text_of(event, source);
    if (!text) {
        out += place == Place::kValue ? "null" : "";
    } else if (place == Place::kForm) {
        append_form_encoded(out, *text);
    } else if (place == Place::kString) {
        append_inside_string(out, *text);
    } else if (source == Source::kCreated) {
        out += *text;
    } else {
        append_json_string(out, *text);
    }
}

void append_slice(std::string& out, std::string_view slice, Place place) {
    const bool is_string = slice.starts_with('"');
    if (slice.empty() || slice == "null") {
        out += place == Place::kValue ? "null" : "";
    } else if (place == Place::kValue) {
        out += slice;
    } else if (place == Place::kForm && is_string) {
        append_form_encoded(out, decode_json_string(slice.substr(1, slice.size() - 2)));
    } else if (place == Place::kForm) {
        append_form_encoded(out, slice);
    } else if (is_string) {
        out += slice.substr(1, slice.size() - 2);  // escaped already
    } else {
        append_inside_string(out, slice);
    }
}

}  // namespace

Result<std::string> BodyTemplate::render(const Event& event) const {
    std::vector<std::string_view> slices;
    if (paths_.size() > 0 && !paths_.find(event.payload, slices)) {
        return fail(ErrorCode::kCorrupt, "the payload is not JSON that can be read");
    }
    std::string out;
    std::size_t from = 0;
    for (const Placeholder& placeholder : placeholders_) {
        out.append(text_, from, placeholder.begin - from);
        const Place place = syntax_ == BodySyntax::kForm ? Place::kForm
                            : placeholder.is_in_string   ? Place::kString
                                                         : Place::kValue;
        if (placeholder.source == Source::kPayload) {
            append_slice(out, slices[placeholder.path], place);
        } else {
            append_member(out, event, placeholder.source, place);
        }
        from = placeholder.end;
        if (out.size() > limits::kBodyTemplateOutputBytesMax) {
            break;
        }
    }
    out.append(text_, from);
    if (out.size() > limits::kBodyTemplateOutputBytesMax) {
        return fail(ErrorCode::kTooLarge, "the template's body is longer than " +
                                              std::to_string(limits::kBodyTemplateOutputBytesMax) + " bytes");
    }
    return out;
}

}  // namespace headgate
