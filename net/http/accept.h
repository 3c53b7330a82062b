// What a client would rather have: Accept, Accept-Language, Accept-Encoding (RFC 9110, 12).
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace evlua::http {

/// The weight of a content coding, in thousandths; 0: it is not wanted. Without the field nothing but "identity" is.
int coding_weight(std::string_view accept_encoding, std::string_view coding) noexcept;
/// How much no coding at all is wanted: 0 unless the field says so, since it is what everybody takes at worst.
int identity_weight(std::string_view accept_encoding) noexcept;

/// Which of `offers` (media types without parameters) is liked best; among equals the first one. Nothing: none of them.
std::optional<std::size_t> choose_media_type(std::string_view accept,
                                             std::span<const std::string_view> offers) noexcept;

/// The same for languages: "en" in the field stands for the offer "en-GB", too.
std::optional<std::size_t> choose_language(std::string_view accept, std::span<const std::string_view> offers) noexcept;

}  // namespace evlua::http
