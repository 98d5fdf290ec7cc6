# Key pairs of tests, by the openssl command line: in PEM and as JWKs, and tokens signed with them.
#
#   my $key   = Headgate::Keys->make($t, 'P-256');           # RSA, RSA-1024, P-256, P-384, P-521, Ed25519
#   my $token = $key->token('ES256', claims => { sub => 'me' });
#   $t->write_file('keys.json', Headgate::Keys::jwks($key->jwk));
package Headgate::Keys;
use v5.36;

use File::Temp ();
use MIME::Base64 qw(decode_base64);

use Headgate::Credentials qw(base64url json jwt_parts);

my %GENERATE = (
    RSA        => ['RSA', 'rsa_keygen_bits:2048'],
    'RSA-1024' => ['RSA', 'rsa_keygen_bits:1024'],
    'P-256'    => ['EC', 'ec_paramgen_curve:P-256'],
    'P-384'    => ['EC', 'ec_paramgen_curve:P-384'],
    'P-521'    => ['EC', 'ec_paramgen_curve:P-521'],
    Ed25519    => ['ED25519'],
);
my %COORDINATE_BYTES = ('P-256' => 32, 'P-384' => 48, 'P-521' => 66);
my $serial = 0;

sub make ($class, $t, $type) {
    my ($algorithm, @options) = $GENERATE{$type}->@*;
    my $self = bless { t => $t, type => $type, kid => "$type-" . ++$serial, private => $t->path("keys/$type-$serial.pem") }, $class;
    $t->dir('keys');
    openssl('genpkey', '-algorithm', $algorithm, (map { ('-pkeyopt', $_) } @options), '-out', $self->{private});
    $self->{public_pem} = openssl('pkey', '-in', $self->{private}, '-pubout');
    $self->{der}        = decode_base64($self->{public_pem} =~ s/^-.*$//mgr);
    return $self;
}

sub openssl (@arguments) {
    my $input = ref $arguments[-1] ? ${ pop @arguments } : undef;
    my $file;
    if (defined $input) {
        $file = File::Temp->new;
        print {$file} $input;
        close $file;
        push @arguments, "$file";
    }
    open my $pipe, '-|', 'sh', '-c', 'exec openssl "$@" 2>/dev/null', 'sh', @arguments or die "openssl: $!";
    binmode $pipe;
    local $/;
    my $output = <$pipe>;
    close $pipe or die "openssl @arguments failed";
    return $output;
}

sub kid ($self)        { $self->{kid} }
sub public_pem ($self) { $self->{public_pem} }
sub der ($self)        { $self->{der} }

# A JWK; members override or, with undef, remove.
sub jwk ($self, %members) {
    my %jwk = (kid => $self->{kid});
    if (my $bytes = $COORDINATE_BYTES{ $self->{type} }) {
        my $point = substr $self->{der}, -2 * $bytes;
        %jwk = (%jwk, kty => 'EC', crv => $self->{type}, x => base64url(substr $point, 0, $bytes), y => base64url(substr $point, $bytes));
    }
    elsif ($self->{type} eq 'Ed25519') {
        %jwk = (%jwk, kty => 'OKP', crv => 'Ed25519', x => base64url(substr $self->{der}, -32));
    }
    else {
        my ($modulus) = openssl('rsa', '-pubin', '-noout', '-modulus', '-in', $self->public_file) =~ /=([0-9A-F]+)/;
        %jwk = (%jwk, kty => 'RSA', n => base64url(pack 'H*', $modulus), e => 'AQAB');
    }
    %jwk = (%jwk, %members);
    delete @jwk{ grep { !defined $jwk{$_} } keys %jwk };
    return \%jwk;
}

sub public_file ($self) { $self->{public_file} //= $self->{t}->write_file("keys/$self->{kid}.pub", $self->{public_pem}, 0644) }

sub jwks (@jwks) { json({ keys => \@jwks }) }

# The raw signature as RFC 7518 has it.
sub sign ($self, $algorithm, $text) {
    my ($hash) = $algorithm =~ /(\d+)\z/;
    return openssl('pkeyutl', '-sign', '-rawin', '-inkey', $self->{private}, '-in', \$text) if $algorithm eq 'EdDSA';
    my @padding = $algorithm =~ /\APS/ ? ('-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:digest') : ();
    my $signature = openssl('dgst', "-sha$hash", '-sign', $self->{private}, @padding, \$text);
    return $algorithm =~ /\AES/ ? raw_ecdsa($signature, $COORDINATE_BYTES{ $self->{type} }) : $signature;
}

# SEQUENCE { INTEGER r, INTEGER s } -> R || S
sub raw_ecdsa ($der, $bytes) {
    my $at  = ord(substr $der, 1, 1) & 0x80 ? 3 : 2;
    my $raw = '';
    for (1, 2) {
        my $length = ord substr $der, $at + 1, 1;
        my $number = substr $der, $at + 2, $length;
        $number =~ s/\A\0+//;
        $raw .= "\0" x ($bytes - length $number) . $number;
        $at += 2 + $length;
    }
    return $raw;
}

# As Headgate::Credentials::jwt(), with this key: its kid unless header => { kid => … } says otherwise.
sub token ($self, $algorithm, %args) {
    my ($header, $claims) = jwt_parts('', %args, header => { alg => $algorithm, kid => $self->{kid}, ($args{header} // {})->%* });
    my $signed = base64url($header) . '.' . base64url($claims);
    return "$signed." . base64url($self->sign($algorithm, $signed));
}

1;
