# More distinct callers than the zone can remember: each brings a token of its own and has a limit of its own. The zone
# stays as large as it was made, workers too, and whoever comes back is still held to the limit, though everything about it
# was forgotten in the meantime.
#
# HEADGATE_MANY_KEYS=1000000 prove -It/lib -v t/09-many-keys.t   a million of them (`make many-keys`); 30,000 unless said
use v5.36;
use Test::More;

use Digest::SHA qw(hmac_sha256);
use IO::Select;
use Time::HiRes qw(time);

use Headgate::Credentials qw(base64url);
use Headgate::Edge;
use Headgate::Http;
use Headgate::Test;

my $t       = Headgate::Test->new;
my $callers = $ENV{HEADGATE_MANY_KEYS} // 30_000;
my $per_round = 750;    # new callers between two visits of one that comes back often
my $edge    = Headgate::Edge->start(
    $t, redis => $t->redis(appendfsync => 'no'), zone => '2m', workers => 2,
    http      => "headgate_plan often rate=10r/d; headgate_plan seldom rate=2r/d; headgate_plan many rate=1000r/s; keepalive_requests 100000000;",
    locations => <<~"CONF",
        location = /exact { headgate_auth jwt; headgate_limit plan; headgate_limit_mode exact; access_log off; empty_gif; }
        location = /lease { headgate_auth jwt; headgate_limit plan; headgate_limit_mode lease; access_log off; empty_gif; }
        CONF
);
my $nginx = $edge->nginx;

# -- the load -----------------------------------------------------------------------------------------------
# Requests are sent many at a time on each connection (HTTP/1.1 pipelining), or this client would be what is measured.
my $at_once = 32;
my @modes   = qw(exact lease);
my $expires = time + 7200;
my $header  = base64url('{"alg":"HS256"}');
sub token ($subject, $plan) {
    my $signed = $header . '.' . base64url(sprintf '{"iss":"headgate","sub":"%s","org":"o","plan":"%s","exp":%d}', $subject, $plan, $expires);
    return $signed . '.' . base64url(hmac_sha256($signed, $edge->token_secret));
}
sub request ($mode, $token) { "GET /$mode HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer $token\r\n\r\n" }
my %seen;    # status => count
my $next = 0;
# Callers $next to $last - 1, each once, on several connections.
sub call_until ($last) {
    my $select = IO::Select->new;
    my %state;
    my $send = sub ($socket) {
        my $end = $next + $at_once < $last ? $next + $at_once : $last;
        $state{$socket}{waits} = $end - $next;
        my $bytes = join '', map { request($modes[$_ & 1], token("caller-$_", 'many')) } $next .. $end - 1;
        $next = $end;
        syswrite($socket, $bytes) == length $bytes or die "not all was sent\n";
    };
    for (1 .. 32) {
        last if $next >= $last;
        my $http = $nginx->connect;
        $state{ $http->socket } = { http => $http, buffer => '' };
        $select->add($http->socket);
        $send->($http->socket);
    }
    while ($select->count) {
        my @ready = $select->can_read(30) or die "no answer\n";
        for my $socket (@ready) {
            my $state = $state{$socket};
            sysread $socket, $state->{buffer}, 262_144, length $state->{buffer} or die "a connection is lost\n";
            # Complete answers, each with its length.
            while ($state->{buffer} =~ m{\GHTTP/1\.1 (\d{3}) .*?\r\n\r\n}gcs) {
                my ($status, $end) = ($1, pos $state->{buffer});
                my ($length) = $& =~ /\r\nContent-Length: (\d+)/ or die "no Content-Length\n";
                if ($end + $length > length $state->{buffer}) { pos($state->{buffer}) = $-[0]; last }
                pos($state->{buffer}) = $end + $length;
                $seen{$status}++;
                $state->{waits}--;
            }
            substr $state->{buffer}, 0, pos($state->{buffer}) // 0, '';
            next if $state->{waits};
            if ($next < $last) { $send->($socket); next }
            $select->remove($socket);
            $state->{http}->close;
        }
    }
}
sub private_kb () {
    my $sum = 0;
    for my $pid ($nginx->worker_pids) {
        my ($kb) = $t->read_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
        $sum += $kb;
    }
    return $sum;
}

# -- callers that come back ---------------------------------------------------------------------------------
# Some so often that the zone still knows them, others after more new callers than it has room for.
my @kinds = ([often => 1, 10], [seldom => 10, 2]);
my %back;
for my $mode (@modes) {
    $back{"$mode, $_->[0]"} = { mode => $mode, every => $_->[1], quota => $_->[2], token => token("$mode-$_->[0]", $_->[0]), answers => [] } for @kinds;
}
my $rounds = int($callers / $per_round);
my %half;
my $begun = time;
for my $round (1 .. $rounds) {
    call_until($round == $rounds ? $callers : $round * $per_round);
    for my $who (grep { $round % $_->{every} == 0 } values %back) {
        push $who->{answers}->@*, $nginx->get("/$who->{mode}", headers => [Authorization => "Bearer $who->{token}"])->status;
    }
    %half = (memory => private_kb(), auth => $edge->status->{auth}) if $round == int($rounds / 2);
}
my $took = time - $begun;
my ($memory, $auth) = (private_kb(), $edge->status->{auth});
is_deeply \%seen, { 200 => $callers }, "$callers callers are let in, each within its own limit";
for my $name (sort keys %back) {
    my ($quota, @answers) = ($back{$name}{quota}, $back{$name}{answers}->@*);
    my $passed = grep { $_ == 200 } @answers;
    if ($back{$name}{mode} eq 'exact') {
        is join(' ', @answers), join(' ', (200) x $quota, (429) x (@answers - $quota)), "$name: let in as often as the limit says, and no more";
        next;
    }
    # What was leased and is forgotten is charged all the same.
    is $answers[0], 200, "$name: let in";
    cmp_ok $passed, '<=', $quota, '... no more often than the limit says';
    is $answers[-1], 429, '... and in the end not at all';
}

# -- what is kept -------------------------------------------------------------------------------------------
my $forgotten = 2 * int($rounds / $kinds[1][1]);
is $auth->{token_misses}, $callers + 2 + $forgotten, 'tokens that are used stay, those that are not go first';
# Not exactly: pages of the zone change hands between tokens and limits.
cmp_ok abs($auth->{tokens} - $half{auth}{tokens}), '<', $half{auth}{tokens} / 10, 'the zone was full at half time and holds about as many at the end';
cmp_ok $auth->{tokens}, '<', $per_round * $kinds[1][1], '... a small part of all';
cmp_ok $auth->{evictions} - $half{auth}{evictions}, '>=', int($callers / 2), '... because each newcomer takes the place of another';
SKIP: {
    skip 'AddressSanitizer keeps what was freed for a while', 1 if $ENV{HEADGATE_TEST_ASAN};
    cmp_ok $memory, '<=', $half{memory} + 1024, 'the memory of the workers does not grow';
}
unlike $nginx->error_text, qr/no memory/, 'nothing is said to have found no room';
diag sprintf '%d callers in %.1f s; private memory of both workers: %d kB, at half time %d kB; %d tokens in the zone', $callers, $took, $memory, $half{memory}, $auth->{tokens};
$t->done;
