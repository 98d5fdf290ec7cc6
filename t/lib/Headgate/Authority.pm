# A certificate authority of a test's own, by the openssl command line.
package Headgate::Authority;
use v5.36;

my @EC = qw(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes);

sub start ($class, $t, $name = 'ca') {
    my $self = bless { t => $t, name => $name, dir => $t->dir("authority-$name") }, $class;
    $self->openssl('req', '-x509', @EC, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', "/CN=$name", '-days', 2);
    return $self;
}

sub pem ($self) { "$self->{dir}/ca.pem" }

# A certificate that is good for these names (DNS:…, IP:…), and its key: as lines of redis.conf, with a port for TLS.
sub redis_lines ($self, $port, @names) {
    my $file = 'server' . ++$self->{served};
    $self->{t}->write_file("$self->{dir}/$file.san", 'subjectAltName=' . join(',', @names) . "\n");
    $self->openssl('req', @EC, '-keyout', "$file.key", '-out', "$file.csr", '-subj', "/CN=$file");
    $self->openssl(qw(x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -in), "$file.csr", '-out', "$file.pem", '-extfile', "$file.san");
    return "tls-port $port\ntls-cert-file $self->{dir}/$file.pem\ntls-key-file $self->{dir}/$file.key\n"
        . "tls-ca-cert-file $self->{dir}/ca.pem\ntls-auth-clients no\n";
}

sub openssl ($self, @words) {
    my $said = `cd $self->{dir} && openssl @words 2>&1`;
    die "openssl @words: $said" if $?;
}

1;
