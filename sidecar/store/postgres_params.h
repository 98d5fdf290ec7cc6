// Bound parameters in PostgreSQL's binary form: integers, floats and array headers in network order, text and bytea as
// they are (the server's *recv functions: int8recv, array_recv). Next file: postgres_connection.h.
#pragma once

#include <bit>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace headgate {

// Bytes that are no text.
struct PgBytes {
    std::string_view bytes;
};

namespace pg {

// Of the server's catalogue (src/include/catalog/pg_type.dat); they never change.
inline constexpr unsigned kInt8 = 20, kText = 25, kFloat8 = 701, kBytea = 17;
inline constexpr unsigned kInt8Array = 1016, kTextArray = 1009, kByteaArray = 1001, kFloat8Array = 1022;

inline void append_int32(std::string& out, std::int32_t value) {
    auto bits = static_cast<std::uint32_t>(value);
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(bits >> shift);
}
inline void append_int64(std::string& out, std::int64_t value) {
    auto bits = static_cast<std::uint64_t>(value);
    for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(bits >> shift);
}

}  // namespace pg

// A column of values, one for each row of an unnest(): built up row by row, bound as one parameter.
class PgArray {
 public:
    explicit PgArray(unsigned element_type) : element_type_(element_type) {}
    [[nodiscard]] static PgArray numbers() { return PgArray(pg::kInt8); }
    [[nodiscard]] static PgArray texts() { return PgArray(pg::kText); }
    [[nodiscard]] static PgArray bytes() { return PgArray(pg::kBytea); }
    [[nodiscard]] static PgArray reals() { return PgArray(pg::kFloat8); }

    void add(std::string_view value) {
        pg::append_int32(elements_, static_cast<std::int32_t>(value.size()));
        elements_ += value;
        count_++;
    }
    void add(std::int64_t value) {
        pg::append_int32(elements_, 8);
        pg::append_int64(elements_, value);
        count_++;
    }
    template <typename T>
    requires std::is_integral_v<T>
    void add(T value) { add(static_cast<std::int64_t>(value)); }
    void add(const std::optional<std::int64_t>& value) {
        if (value) return add(*value);
        add_null();
    }
    void add(double value) { add(std::bit_cast<std::int64_t>(value)); }
    void add_null() {
        pg::append_int32(elements_, -1);
        count_++;
        has_null_ = true;
    }
    [[nodiscard]] bool empty() const { return count_ == 0; }
    [[nodiscard]] std::int32_t size() const { return count_; }
    [[nodiscard]] std::string encoded() const {
        std::string out;
        pg::append_int32(out, count_ == 0 ? 0 : 1);  // dimensions
        pg::append_int32(out, has_null_ ? 1 : 0);
        pg::append_int32(out, static_cast<std::int32_t>(element_type_));
        if (count_ == 0) return out;
        pg::append_int32(out, count_);
        pg::append_int32(out, 1);  // lower bound
        return out += elements_;
    }
    [[nodiscard]] unsigned array_type() const {
        return element_type_ == pg::kInt8     ? pg::kInt8Array
               : element_type_ == pg::kText   ? pg::kTextArray
               : element_type_ == pg::kFloat8 ? pg::kFloat8Array
                                              : pg::kByteaArray;
    }

 private:
    unsigned element_type_;
    std::int32_t count_ = 0;
    bool has_null_ = false;
    std::string elements_;
};

// The parameters of one statement. Text and bytes are borrowed until the statement is queued.
class PgParams {
 public:
    void add(std::string_view text) { borrow(pg::kText, text); }
    void add(PgBytes value) { borrow(pg::kBytea, value.bytes); }
    void add(std::int64_t number) { own(pg::kInt8, encoded(number)); }
    void add(double number) { own(pg::kFloat8, encoded(std::bit_cast<std::int64_t>(number))); }
    void add(const std::optional<std::int64_t>& number) {
        if (number) return add(*number);
        push(pg::kInt8, nullptr, 0);
    }
    void add(const PgArray& array) { own(array.array_type(), array.encoded()); }
    template <typename T>
    requires std::is_integral_v<T>
    void add(T number) { add(static_cast<std::int64_t>(number)); }
    void add(std::span<const int> numbers) {
        PgArray array = PgArray::numbers();
        for (int number : numbers) array.add(number);
        add(array);
    }

    [[nodiscard]] int count() const { return static_cast<int>(types.size()); }
    std::vector<unsigned> types;
    std::vector<const char*> values;
    std::vector<int> lengths, formats;

 private:
    static std::string encoded(std::int64_t number) {
        std::string out;
        pg::append_int64(out, number);
        return out;
    }
    // An empty view may have no address, and libpq takes that for NULL.
    void borrow(unsigned type, std::string_view text) { push(type, text.empty() ? "" : text.data(), text.size()); }
    void own(unsigned type, std::string bytes) {
        owned_.push_back(std::move(bytes));
        push(type, owned_.back().data(), owned_.back().size());
    }
    void push(unsigned type, const char* value, std::size_t length) {
        types.push_back(type);
        values.push_back(value);
        lengths.push_back(static_cast<int>(length));
        formats.push_back(1);
    }
    std::deque<std::string> owned_;  // its elements stay where they are
};

}  // namespace headgate
