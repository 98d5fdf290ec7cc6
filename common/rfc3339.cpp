// Input: milliseconds since the epoch, or text. Output: the other. Days and civil dates are
// converted in the proleptic Gregorian calendar with years that begin in March, so that the leap day is the last.
#include "common/rfc3339.h"

#include <algorithm>
#include <cstddef>

namespace headgate {

namespace {

constexpr std::int64_t kMsPerDay = 86'400'000;
constexpr std::int64_t kLastMs = 253'402'300'799'999;  // 9999-12-31T23:59:59.999Z

constexpr std::int64_t days_from_civil(int year, int month, int day) noexcept {
    const std::int64_t march_year = month <= 2 ? year - 1 : year;
    const std::int64_t era = (march_year >= 0 ? march_year : march_year - 399) / 400;
    const std::int64_t year_of_era = march_year - era * 400;
    const std::int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    const std::int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146'097 + day_of_era - 719'468;  // days from 0000-03-01 to the epoch
}

struct CivilDate {
    int year, month, day;
};

constexpr CivilDate civil_from_days(std::int64_t days) noexcept {
    days += 719'468;
    const std::int64_t era = days / 146'097;  // days >= 0: no year before 1970 is formatted
    const std::int64_t day_of_era = days - era * 146'097;
    const std::int64_t year_of_era =
        (day_of_era - day_of_era / 1'460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
    const std::int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const std::int64_t march_month = (5 * day_of_year + 2) / 153;
    const int month = static_cast<int>(march_month < 10 ? march_month + 3 : march_month - 9);
    const std::int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
    return {static_cast<int>(year), month, static_cast<int>(day_of_year - (153 * march_month + 2) / 5 + 1)};
}

constexpr int days_in_month(int year, int month) noexcept {
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return month == 2 && leap ? 29 : kDays[month - 1];
}

char* write_digits(char* out, std::int64_t number, int digits) noexcept {
    for (int i = digits - 1; i >= 0; --i) {
        out[i] = static_cast<char>('0' + number % 10);
        number /= 10;
    }
    return out + digits;
}

// Reads a text from left to right; after the first failure every further step fails.
class Reader {
 public:
    explicit Reader(std::string_view text) noexcept : text_(text) {}
    int number(int digits, int low, int high) noexcept {
        int value = 0;
        for (int i = 0; i < digits; ++i) {
            const char c = next();
            ok_ = ok_ && c >= '0' && c <= '9';
            value = ok_ ? value * 10 + (c - '0') : 0;
        }
        ok_ = ok_ && value >= low && value <= high;
        return value;
    }
    // Takes one of the characters and returns it.
    char one_of(std::string_view characters) noexcept {
        const char c = next();
        ok_ = ok_ && characters.find(c) != std::string_view::npos;
        return c;
    }
    [[nodiscard]] bool sees(char c) const noexcept { return at_ < text_.size() && text_[at_] == c; }
    [[nodiscard]] bool sees_digit() const noexcept {
        return at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9';
    }
    [[nodiscard]] bool ok() const noexcept { return ok_; }
    [[nodiscard]] bool at_end() const noexcept { return ok_ && at_ == text_.size(); }

 private:
    char next() noexcept {
        if (at_ == text_.size()) {
            ok_ = false;
            return '\0';
        }
        return text_[at_++];
    }
    std::string_view text_;
    std::size_t at_ = 0;
    bool ok_ = true;
};

}  // namespace

void rfc3339_format_into(std::int64_t epoch_ms, char (&out)[kRfc3339Bytes]) noexcept {
    epoch_ms = std::clamp<std::int64_t>(epoch_ms, 0, kLastMs);
    const CivilDate date = civil_from_days(epoch_ms / kMsPerDay);
    const std::int64_t ms_of_day = epoch_ms % kMsPerDay;
    char* at = write_digits(out, date.year, 4);
    *at++ = '-';
    at = write_digits(at, date.month, 2);
    *at++ = '-';
    at = write_digits(at, date.day, 2);
    *at++ = 'T';
    at = write_digits(at, ms_of_day / 3'600'000, 2);
    *at++ = ':';
    at = write_digits(at, ms_of_day / 60'000 % 60, 2);
    *at++ = ':';
    at = write_digits(at, ms_of_day / 1'000 % 60, 2);
    *at++ = '.';
    at = write_digits(at, ms_of_day % 1'000, 3);
    *at = 'Z';
}

std::string rfc3339_format(std::int64_t epoch_ms) {
    char text[kRfc3339Bytes];
    rfc3339_format_into(epoch_ms, text);
    return {text, sizeof text};
}

std::optional<std::int64_t> rfc3339_parse(std::string_view text) noexcept {
    Reader in(text);
    const int year = in.number(4, 0, 9999);
    in.one_of("-");
    const int month = in.number(2, 1, 12);
    in.one_of("-");
    const int day = in.number(2, 1, 31);
    in.one_of("Tt");
    const int hour = in.number(2, 0, 23);
    in.one_of(":");
    const int minute = in.number(2, 0, 59);
    in.one_of(":");
    const int second = in.number(2, 0, 60);  // 60: a leap second, which the epoch counts as the next second
    int ms = 0;
    if (in.sees('.')) {
        in.one_of(".");
        int digits = 0;
        do {
            const int digit = in.number(1, 0, 9);
            ms = digits < 3 ? ms * 10 + digit : ms;
        } while (++digits < 9 && in.sees_digit());
        for (; digits < 3; ++digits) {
            ms *= 10;
        }
    }
    const char zone = in.one_of("Zz+-");
    int offset_minutes = 0;
    if (zone == '+' || zone == '-') {
        offset_minutes = in.number(2, 0, 23) * 60;
        in.one_of(":");
        offset_minutes += in.number(2, 0, 59);
    }
    if (!in.at_end() || day > days_in_month(year, month)) {
        return std::nullopt;
    }
    const std::int64_t minutes = hour * 60 + minute - (zone == '-' ? -offset_minutes : offset_minutes);
    return days_from_civil(year, month, day) * kMsPerDay + minutes * 60'000 + second * 1'000 + ms;
}

}  // namespace headgate
