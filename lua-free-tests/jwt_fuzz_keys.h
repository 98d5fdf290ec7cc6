// One key of each kind. The halves that signed corpus/jwt are gone.
#pragma once

#include <string_view>

namespace headgate::test {

inline constexpr std::string_view kFuzzJwks =
    R"({"keys":[)"
    R"({"kty":"oct","k":"ZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZm)"
    R"(ZmZg","kid":"oct"},)"
    R"({"kty":"RSA","n":"pwkLr6wVGQDvcToCVpUvLiHDfbRdQjW8dC-4FdsWpzRfcBv2IgFTerXndnLRAKx2RVuTJDnJpGw7Lryud5)"
    R"(SeCG_3iHrKRjTycdLNlHiFwYoBvxM3aQhQQaehFBO96o3UYip2BDMHR2i4bvdmQMNCdTIN71QNpFjRePBYeeAvbLmqoFejsQgIJ9)"
    R"(nZTDJA3ghk5ionHZyofWBpfZtjpvHZMV-5nZLL9_doU5exkgMMgkqWOPSP7hCm06Bhb7XMKrMHJ7RjCYMKK1H1qfognEqljY2Wsk)"
    R"(0j9J_RdGcAyK46hczX39gVMT9ShEywJk7ngCUqZMGhQ8XhZYTibbxI5QMHZw","e":"AQAB","kid":"rsa"},)"
    R"({"kty":"EC","crv":"P-256","x":"wtidUl8qJOw6NYSyX-Ho3vlv3e6PROl1znNGwKSbGGU","y":"6Y4jC6Ooo9a9CdnUPUl)"
    R"(tJWTBlapR6En9gjyRuLlzlos","kid":"p256"},)"
    R"({"kty":"EC","crv":"P-384","x":"zDdlVx4as8eSqkrgrjn0I8K5Y5GKNzFYXYrW-2vFahOVJOngbTIf6mAv2CJmky3h","y")"
    R"(:"8xrZarFD6ls4xs8X5SLoN3H2bKc19VD0qhQIaU2loIO-r4bFZn7QJNmOStZa_dmY","kid":"p384"},)"
    R"({"kty":"EC","crv":"P-521","x":"AYYZPUgCm8IdA-5WJMJwnmWafDNtkMElKuaBRxgfw_HH2-jqEzyX5dsqsgb2JjMb2cs-M)"
    R"(2Fr0JBqHa-gDb0lPr0b","y":"AIQx1Bi09bAJ6EvrYgIlKARJpo4seA5mez4vpYQJ6VqPoY6I13sP8RaISXcvzKSySsFDm_sLkM)"
    R"(ylGiYdf8xcrUid","kid":"p521"},)"
    R"({"kty":"OKP","crv":"Ed25519","x":"7u8MxmGVD9oUtjU6-2TNkz_zyz_b8CYqfV7EShqCVcw","kid":"ed25519"})"
    "]}";

}  // namespace headgate::test
