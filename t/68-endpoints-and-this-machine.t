# What endpoints answer beside their status, and what this machine lacks: neither makes a failure of what an endpoint has accepted, or was
# never asked.
use v5.36;
use Test::More;

use JSON::PP ();

use Headgate::Http;
use Headgate::Test;

my $t = Headgate::Test->new;

# One process for all: /silent never answers; /utf8 and /gzip say an encoding that is not there; /long answers 200 with 3 MiB.
my $port    = $t->port;
my $program = $t->write_file('receiver.pl', <<'PERL');
use v5.36;
use IO::Select;
use IO::Socket::INET;
my ($port) = @ARGV;
$SIG{PIPE} = 'IGNORE';
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1024, ReuseAddr => 1) or die "listen: $@";
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
            last if $path eq '/silent';
            my ($headers, $body) = ('', 'thanks');
            $headers = "Content-Encoding: UTF-8\r\n" if $path eq '/utf8';
            $headers = "Content-Encoding: gzip\r\n" if $path eq '/gzip';
            $body    = 'x' x (3 << 20) if $path eq '/long';
            print {$socket} "HTTP/1.1 200 OK\r\n${headers}Content-Length: " . length($body) . "\r\n\r\n$body";
            $socket->flush;
        }
    }
}
PERL
my $receiver = $t->start(name => 'receiver', command => [$^X, $program, $port]);
$t->wait_for_port($port, $receiver);

my $http;

sub call ($sidecar, $method, $path, $value) {
    my $answer = $http->request($method, $path,
        headers => ['Content-Type' => 'application/json', 'X-API-Key' => $sidecar->api_key], body => JSON::PP::encode_json($value));
    $t->die_with_logs("$method $path: " . $answer->status . ' ' . $answer->body) if $answer->status !~ /^2/;
    return $answer->json;
}

sub hook ($sidecar, $url, $events, %more) {
    my $answer = call($sidecar, 'POST', '/api/webhooks', { name => $url, url => $url, events => [$events], %more });
    return ($answer->{data} // $answer)->{id} // ($answer->{data}{webhook} // {})->{id} // $t->die_with_logs('no id: ' . JSON::PP::encode_json($answer));
}

sub publish ($sidecar, $type, $count) {
    call($sidecar, 'POST', '/events', { type => $type, source => 'test', payload => { number => $_ } }) for 1 .. $count;
}

sub deliveries ($sidecar, $hook, $where) { $sidecar->sql_value("SELECT count(*) FROM deliveries WHERE webhook_id = '$hook' AND $where") }

my $redis    = $t->redis;
my $sidecar  = $t->sidecar(redis => $redis);
my $headgate = $sidecar->executable;
my $limited  = $t->write_file('headgate-limited', "#!/bin/sh\nexec prlimit --nofile=72:72 $headgate \"\$@\"\n", 0700);
local $ENV{HEADGATE_BIN} = $limited;
my (undef, $checked) = $sidecar->run('check-config');
like $checked, qr/delivery\.max_in_flight\s+warning\s.*\b72\b/, 'check-config says that so many requests cannot have descriptors';
$sidecar->serve->wait_until_healthy;
$http = Headgate::Http->connect(port => $sidecar->front->port);

my %odd = map { $_ => hook($sidecar, "http://127.0.0.1:$port/$_", 'odd.x') } qw(utf8 gzip long);
publish($sidecar, 'odd.x', 2);
for my $name (sort keys %odd) {
    $t->wait_for("deliveries to /$name", sub { deliveries($sidecar, $odd{$name}, "attempts > 0 AND state <> 'in_flight'") == 2 });
    is deliveries($sidecar, $odd{$name}, "state = 'success' AND attempts = 1"), 2, "/$name: 200 is a success";
}
is $sidecar->sql_value("SELECT max(length(a.response_body)) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id WHERE d.webhook_id = '$odd{long}'"),
    65_536, 'of a long body its beginning is kept';

my @silent = map { hook($sidecar, "http://127.0.0.1:$port/silent", 'all.x', timeout_seconds => 2) } 1 .. 5;
my $good   = hook($sidecar, "http://127.0.0.1:$port/good", 'all.x');
publish($sidecar, 'all.x', 30);
$t->wait_for('the good endpoint to have everything', sub { deliveries($sidecar, $good, "state = 'success'") == 30 }, 60);
my ($row) = $sidecar->sql("SELECT failing_since_at, failed_deliveries FROM webhooks WHERE id = '$good'");
ok !$row->{failing_since_at} && !$row->{failed_deliveries}, 'it counts as failing at no time';
is deliveries($sidecar, $good, 'attempts <> 1'), 0, 'no attempt is used up';
my $of = sub ($which) {
    $sidecar->sql_value("SELECT count(*) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id JOIN events e ON e.id = d.event_id WHERE e.type = 'all.x' AND $which");
};
is $of->("a.error_type NOT IN ('', 'timeout', 'interrupted', 'circuit_open')"), 0, 'nobody is told to have refused a connection';
my $interrupted = $of->("a.error_type = 'interrupted'");
ok $interrupted > 0, 'some could not begin';
cmp_ok $interrupted, '<', 400, 'and were not tried again at once';
is $of->("a.error_type = 'interrupted' AND a.next_attempt_at < a.finished_at + 1000"), 0, 'but a second later';
my $log = $sidecar->process->log_text;
like $log, qr/open_files_too_few max=72 /, 'the log says at the start that there are too few';
is scalar(() = $log =~ /delivery\.no_sockets/g), 1, 'and says once that there are none';
$http->close;
is $sidecar->process->stop, undef, 'it stops';

$t->done;
