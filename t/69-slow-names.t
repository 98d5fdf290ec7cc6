# A resolver that takes longer than anyone waits: other endpoints get everything meanwhile, the look-ups that libcurl leaves behind are
# bounded, and nobody waits for them at the end.
use v5.36;
use Test::More;

use JSON::PP ();

use Headgate::Http;
use Headgate::Receiver;
use Headgate::Test;

my $t = Headgate::Test->new;

my $source = $t->write_file('slow.c', <<'C');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    if (name && strstr(name, ".slow.test")) { sleep(60); return EAI_AGAIN; }
    return ((lookup *) dlsym(RTLD_NEXT, "getaddrinfo"))(name, service, hints, found);
}
C
my $library = $t->path('slow.so');
plan skip_all => 'no C compiler' if system('cc', '-shared', '-fPIC', '-o', $library, $source, '-ldl') != 0;

my $receiver = Headgate::Receiver->start($t);
my $port     = $receiver->port;
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

my $sidecar = $t->sidecar(redis => $t->redis, env => { LD_PRELOAD => $library });
$sidecar->serve->wait_until_healthy;
$http = Headgate::Http->connect(port => $sidecar->front->port);
my $pid     = $sidecar->process->pid;
my $threads = sub { my @tasks = glob "/proc/$pid/task/*"; scalar @tasks };
my $before  = $threads->();
my $most    = $before;

my @slow = map { hook($sidecar, "https://h$_.slow.test/", 'slow.x', timeout_seconds => 1) } 1 .. 80;
my $one  = hook($sidecar, 'https://one.slow.test/', 'one.x', timeout_seconds => 1);
my $good = hook($sidecar, "http://127.0.0.1:$port/good", 'good.x');
my $name = hook($sidecar, "http://localhost:$port/good", 'good.x');

publish($sidecar, 'good.x', 1);
$t->wait_for('the good name to be known', sub { deliveries($sidecar, $name, "state = 'success'") == 1 });
publish($sidecar, 'one.x', 16);
$t->wait_for('the first deliveries to the slow name to be timed out', sub { deliveries($sidecar, $one, "attempts > 0") >= 10 });
cmp_ok $threads->() - $before, '<', 8, 'requests to the same host share a look-up';

publish($sidecar, 'slow.x', 2);
publish($sidecar, 'good.x', 40);
$t->wait_for('endpoints without a slow name to have everything', sub {
    my $now = $threads->();
    $most = $now if $now > $most;
    deliveries($sidecar, $good, "state = 'success'") == 41 && deliveries($sidecar, $name, "state = 'success'") == 41;
});
pass 'others get everything meanwhile';
$t->wait_for('the bound of look-ups to be met', sub {
    my $now = $threads->();
    $most = $now if $now > $most;
    $sidecar->process->log_text =~ /delivery\.look_ups_exhausted/;
});
cmp_ok $most - $before, '<=', 64 + 8, 'look-ups left behind are bounded';
is $sidecar->sql_value("SELECT count(*) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id JOIN events e ON e.id = d.event_id"
        . " WHERE e.type = 'slow.x' AND a.outcome <> 'interrupted' AND a.error_type NOT IN ('timeout', 'circuit_open')"), 0, 'those that did not begin use up no attempt';
$http->close;
is $sidecar->process->stop, undef, 'it stops, and waits for none of them';

$t->done;
