# Endpoints that misbehave beside one that does not: it gets everything meanwhile, and they are asked less and less.
use v5.36;
use Test::More;

use JSON::PP ();

use Headgate::Http;
use Headgate::Test;

my $t       = Headgate::Test->new;
my $redis   = $t->redis;
my $sidecar = $t->sidecar(redis => $redis);

# One process that answers each connection as its path asks: /good, /fails (503), /busy (429), /resets; and /silent never.
my $port     = $t->port;
my $received = $t->path('received');
my $program  = $t->write_file('receiver.pl', <<'PERL');
use v5.36;
use IO::Select;
use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_LINGER);
my ($port, $file) = @ARGV;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1024, ReuseAddr => 1) or die "listen: $@";
open my $out, '>>', $file or die;
$out->autoflush(1);
my $select = IO::Select->new($listener);
my %bytes;
while (1) {
    for my $socket ($select->can_read) {
        if ($socket == $listener) { $select->add(scalar $listener->accept); next }
        my $count = sysread $socket, $bytes{$socket}, 65536, length($bytes{$socket} // '');
        if (!$count) { $select->remove($socket); delete $bytes{$socket}; close $socket; next }
        while ($bytes{$socket} =~ /\A(POST (\S+) .*?\r\n\r\n)/s) {
            my ($head, $path) = ($1, $2);
            my ($length) = $head =~ /^content-length: (\d+)/mi;
            last if length($bytes{$socket}) < length($head) + $length;
            substr $bytes{$socket}, 0, length($head) + $length, '';
            my ($id) = $head =~ /^webhook-id: (\S+)/mi;
            print {$out} "$path $id\n";
            last if $path eq '/silent';
            if ($path eq '/resets') {
                setsockopt $socket, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
                $select->remove($socket);
                delete $bytes{$socket};
                close $socket;
                last;
            }
            my $status = { '/fails' => '503 Service Unavailable', '/busy' => '429 Too Many Requests' }->{$path} // '200 OK';
            syswrite $socket, "HTTP/1.1 $status\r\nContent-Length: 0\r\n\r\n";
        }
    }
}
PERL
my $receiver = $t->start(name => 'receiver', command => [$^X, $program, $port, $received]);
$t->wait_for_port($port, $receiver);
my $refused = $t->port;    # nobody listens there

my %hook;
for my $name (qw(good fails busy resets silent refused)) {
    my $url = $name eq 'refused' ? "http://127.0.0.1:$refused/" : "http://127.0.0.1:$port/$name";
    $hook{$name} = $sidecar->run_json('webhook', 'create', '--org', $sidecar->org, '--url', $url, '--events', $name eq 'good' ? 'good.*' : 'all.*')->{id};
}
$sidecar->serve->wait_until_healthy;
my $front = $sidecar->front;
my $http  = Headgate::Http->connect(port => $front->port);

my %accepted;

sub publish ($type, $count) {
    for my $number (1 .. $count) {
        my $answer = $http->request('POST', '/events',
            headers => ['Content-Type' => 'application/json', 'X-API-Key' => $sidecar->api_key],
            body    => JSON::PP::encode_json({ type => $type, source => 'test', payload => { number => $number } }));
        $t->die_with_logs('publishing: ' . $answer->status . ' ' . $answer->body) if $answer->status != 201;
        $accepted{$type}{ $answer->json->{id} }++;
    }
}

sub received ($path) {
    open my $file, '<', $received or return {};
    my %seen;
    while (<$file>) { $seen{$1}++ if m{\A\Q$path\E (\S+)\n} }
    return \%seen;
}

sub missing ($type, $path) {
    my $seen = received($path);
    return grep { !$seen->{$_} } keys $accepted{$type}->%*;
}

publish('all.x', 120);
$t->wait_for('the silent endpoint to hold its requests', sub { keys(received('/silent')->%*) >= 16 });
publish('good.x', 200);
$t->wait_for('the good endpoint to have everything', sub { !missing('good.x', '/good') }, 30);
pass 'a good endpoint gets everything beside one that is silent, refuses, resets, fails or is busy';
is scalar(grep { $_ > 1 } values received('/good')->%*), 0, 'each once';
cmp_ok scalar(keys received('/silent')->%*), '<=', 16, 'no more than max_in_flight at the silent one';

my $attempts = sub ($name) { $sidecar->sql_value("SELECT count(*) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id WHERE a.outcome = 'retry' AND d.webhook_id = '$hook{$name}'") };
for my $name (qw(fails refused resets)) {
    $t->wait_for("the breaker of $name", sub { $attempts->($name) >= 10 });
    cmp_ok $attempts->($name), '<', 60, "$name: most deliveries wait until it is asked again, unattempted";
    is $sidecar->sql_value("SELECT count(*) FROM deliveries WHERE webhook_id = '$hook{$name}' AND state IN ('dead', 'cancelled')"), 0, "$name: nothing is given up";
}
cmp_ok scalar(keys received('/busy')->%*), '<', 120, 'one that is asked too often is asked less';

$http->close;
$t->done;
