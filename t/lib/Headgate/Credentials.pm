# API keys and tokens as the sidecar makes them, and forgeries that it would never make.
package Headgate::Credentials;
use v5.36;

use Digest::SHA qw(hmac_sha256 hmac_sha256_hex hmac_sha384 hmac_sha512 sha256);
use Exporter qw(import);
use JSON::PP ();
use MIME::Base64 qw(encode_base64url);

our @EXPORT_OK = qw(make_api_key api_key_hash pepper_fingerprint jwt jwt_parts jwt_from_parts
    base64url json thumbprint random_hex uuid);

my @BASE62 = ('0' .. '9', 'A' .. 'Z', 'a' .. 'z');
my $json   = JSON::PP->new->canonical->utf8;

sub json ($value)      { $json->encode($value) }
sub base64url ($bytes) { encode_base64url($bytes) }

sub random_bytes ($count) {
    open my $file, '<:raw', '/dev/urandom' or die "/dev/urandom: $!";
    my $bytes;
    read $file, $bytes, $count;
    return $bytes;
}
sub random_hex ($count) { unpack 'H*', random_bytes($count) }

sub uuid () {
    my $hex = random_hex(16);
    return join '-', unpack 'a8 a4 a4 a4 a12', substr($hex, 0, 12) . '7' . substr($hex, 13, 3) . 'a' . substr $hex, 17;
}

# CRC-32 (ISO-HDLC), bit by bit: a key is 55 bytes.
sub crc32 ($bytes) {
    my $crc = 0xffffffff;
    for my $byte (unpack 'C*', $bytes) {
        $crc ^= $byte;
        $crc = $crc & 1 ? ($crc >> 1) ^ 0xedb88320 : $crc >> 1 for 1 .. 8;
    }
    return $crc ^ 0xffffffff;
}

sub base62 ($number, $digits) {
    my $text = '';
    for (1 .. $digits) {
        $text   = $BASE62[$number % 62] . $text;
        $number = int $number / 62;
    }
    return $text;
}

# hg_<8 char id>_<43 char secret><6 char checksum of all before it>
sub make_api_key () {
    my $id   = join '', map { $BASE62[$_ % 62] } unpack 'C*', random_bytes(8);
    my $text = "hg_${id}_" . base64url(random_bytes(32));
    return $text . base62(crc32($text), 6);
}

sub api_key_hash ($pepper, $key)   { hmac_sha256_hex($key, $pepper) }
sub pepper_fingerprint ($pepper)   { substr hmac_sha256_hex('headgate pepper fingerprint', $pepper), 0, 16 }
# RFC 7638, of a symmetric key.
sub thumbprint ($secret) { base64url(sha256('{"k":"' . base64url($secret) . '","kty":"oct"}')) }

my %MAC = (HS256 => \&hmac_sha256, HS384 => \&hmac_sha384, HS512 => \&hmac_sha512);

# A token as POST /token issues it. claims and header override or, with undef, remove members.
sub jwt ($secret, %args) {
    return jwt_from_parts($secret, jwt_parts($secret, %args), $args{mac});
}

# Its header and payload as JSON text.
sub jwt_parts ($secret, %args) {
    my $now    = $args{now} // time;
    my %header = (alg => 'HS256', typ => 'JWT', kid => thumbprint($secret), ($args{header} // {})->%*);
    my %claims = (
        iss => 'headgate', sub => 'api', org => 'org-test', scope => 'events:write', plan => 'pro',
        jti => random_hex(16), iat => $now, exp => $now + 3600, ($args{claims} // {})->%*,
    );
    delete @header{ grep { !defined $header{$_} } keys %header };
    delete @claims{ grep { !defined $claims{$_} } keys %claims };
    return (json(\%header), json(\%claims));
}

sub jwt_from_parts ($secret, $header, $claims, $mac = undef) {
    my $signed = base64url($header) . '.' . base64url($claims);
    return $signed . '.' . base64url($MAC{ $mac // 'HS256' }->($signed, $secret));
}

1;
