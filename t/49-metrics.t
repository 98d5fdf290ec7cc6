# What platform teams see of the sidecar: /metrics and who may read it, the status hash, /health with each of its reasons,
# the log as JSON, the trace that is carried on to endpoints, and `headgate shards`.
use v5.36;
use IO::Socket::INET;
use JSON::PP ();
use Sys::Hostname qw(hostname);
use Test::More;

use Headgate::Echo;
use Headgate::Http;
use Headgate::Metrics;
use Headgate::Test;

my $t       = Headgate::Test->new;
my $redis   = $t->redis;
my $scraped = $t->port;
my $sidecar = $t->sidecar(
    redis => $redis,
    env   => { HEADGATE_METRICS_LISTEN => "127.0.0.1:$scraped", HEADGATE_LOG_FORMAT => 'json', HEADGATE_DELIVERY_MAX_IN_FLIGHT => 2 },
)->serve->wait_until_healthy;
my $front = $sidecar->front;
my $key   = $sidecar->api_key;

sub ask ($port, $target, @headers) { Headgate::Http->connect(port => $port)->request('GET', $target, headers => \@headers) }
sub metrics () { Headgate::Metrics->parse(ask($scraped, '/metrics')->body) }
sub value ($name, $labels = '') { metrics()->{$name}{samples}{$labels} }
sub publish ($type, @headers) {
    my $answer = $front->request(
        'POST', '/events',
        headers => ['X-API-Key' => $key, 'Content-Type' => 'application/json', @headers],
        body    => qq({"type":"$type","source":"metrics","payload":{"secret":"in-the-body"}}),
    );
    return $answer->status == 201 ? $answer->json->{id} : die $answer->body;
}
sub webhook ($events, $port, %more) {
    my $answer = $front->request(
        'POST', '/api/webhooks',
        headers => ['X-API-Key' => $key, 'Content-Type' => 'application/json'],
        body    => JSON::PP->new->encode({ name => "for $events", url => "http://127.0.0.1:$port/", events => [$events], %more }),
    );
    return $answer->status == 201 ? $answer->json->{data}{webhook}{id} : die $answer->body;
}
sub log_lines ($event) { grep { ($_->{event} // '') eq $event } map { eval { JSON::PP->new->decode($_) } // () } split /\n/, $sidecar->process->log_text }

# -- who may read ---------------------------------------------------------------------------------------
my $answer = ask($scraped, '/metrics');
is $answer->status, 200, 'at the address of metrics.listen';
is $answer->header('Content-Type'), 'text/plain; version=0.0.4; charset=utf-8', '... in the text format';
is ask($scraped, '/metrics', 'X-Forwarded-For' => '203.0.113.9')->status, 200, '... by way of a proxy, too: who may reach it is up to the operator';
is ask($scraped, $_)->status, 404, "... and nothing else: $_" for '/', '/health', '/inbox';
is Headgate::Http->connect(port => $scraped)->request('POST', '/metrics')->status, 405, '... but GET';
is ask($sidecar->port, '/metrics')->status, 200, "at the API's address, from this machine";
is ask($sidecar->port, '/metrics', @$_)->status, 403, "... not with $_->[0]"
    for ['X-Forwarded-For' => '127.0.0.1'], ['X-Real-IP' => '127.0.0.1'], [Via => '1.1 proxy'], [Forwarded => 'for=127.0.0.1'], ['X-API-Key' => $key], [Authorization => 'Bearer x'];
is $front->get('/metrics', headers => ['X-API-Key' => $key])->status, 403, '... and not through nginx, whatever the scope';

# -- syntax, names and units -----------------------------------------------------------------------------
$t->write_file('metrics.txt', $answer->body);
my $families = eval { Headgate::Metrics->parse($answer->body) };
ok $families, 'the format' or diag $@;
my $promtool = Headgate::Metrics->promtool($t->path('metrics.txt'));
is $promtool // '', '', defined $promtool ? 'promtool has nothing to say' : 'promtool is not here';
for my $name (sort keys %$families) {
    like $name, qr/\A(?:headgate|process)_[a-z_]+\z/, $name;
    like $name, qr/_seconds\z/, '... has its unit' if $families->{$name}{type} eq 'histogram';
    cmp_ok scalar(keys $families->{$name}{samples}->%*), '<=', 64, '... has few samples';
}
like +(keys $families->{headgate_build_info}{samples}->%*)[0], qr/\Aversion="\d+\.\d+\.\d+/, 'the version';
cmp_ok $families->{$_}{samples}{''}, '>', 0, $_ for qw(process_resident_memory_bytes process_open_fds process_cpu_seconds_total);

# -- what happens is counted, told and traced -----------------------------------------------------------------
my $echo   = Headgate::Echo->start($t);
my $closed = $t->port;
my $good   = webhook('good.*', $echo->port);
my $bad    = webhook('bad.*', $closed, retry_config => { max_retries => 1, retry_delay => 10, backoff_multiplier => 1 });
my $trace  = '0af7651916cd43dd8448eb211c80319c';
my $traced = publish('good.one', traceparent => "00-$trace-b7ad6b7169203331-01");
my $plain  = publish('good.two');
my $failed = publish('bad.one', traceparent => "00-$trace-b7ad6b7169203331-00");
$t->wait_for('deliveries', sub { my $m = metrics()->{headgate_deliveries_total}{samples}; $m->{'outcome="success"'} == 2 && $m->{'outcome="dead"'} == 1 });
my $m = metrics();
is $m->{headgate_events_drained_total}{samples}{''}, 3, 'events drained';
is $m->{headgate_deliveries_total}{samples}{'outcome="retry"'}, 1, 'a retry';
is $m->{headgate_attempts_total}{samples}{'status_class="2xx",reason="none"'}, 2, 'attempts that succeeded';
is $m->{headgate_attempts_total}{samples}{'status_class="none",reason="connection_error"'}, 2, '... and that failed, by reason';
is $m->{headgate_publish_to_delivery_seconds}{samples}{count}, 2, 'times from 201 to 2xx';
is $m->{headgate_attempt_duration_seconds}{samples}{count}, 4, 'times of attempts';
cmp_ok $m->{$_}{samples}{count}, '>', 0, $_ for qw(headgate_ingest_persist_seconds headgate_store_work_seconds headgate_redis_call_seconds);
is $m->{headgate_api_requests_total}{samples}{'method="POST",route="/api/webhooks",status_class="2xx"'}, 2, 'API requests by route';
is $m->{headgate_api_requests_total}{samples}{'method="GET",route="/metrics",status_class="4xx"'}, 7, '... and class of status';
is $m->{headgate_owned_shards}{samples}{''}, 8, 'shards';
is $m->{headgate_owned_lanes}{samples}{''}, 256, 'lanes';
is $m->{headgate_leases_lost_total}{samples}{''}, 0, 'no lease was lost';
unlike ask($scraped, '/metrics')->body, qr/\Q$good\E|\Q$bad\E|\Q$echo->{port}\E|\Q$sidecar->{org}\E/, 'no webhook, URL or organization in it';
$t->wait_for('the dead one to be counted in the store', sub { (value('headgate_deliveries_stored', 'state="dead"') // 0) == 1 });

my ($seen) = $sidecar->sql_value("SELECT response_body FROM attempts a JOIN deliveries d ON d.id = a.delivery_id WHERE d.event_id = '$traced'")
    =~ /^traceparent: (\S+)\r$/mi;
like $seen, qr/\A00-$trace-(?!b7ad6b7169203331)[0-9a-f]{16}-01\z/, 'the endpoint sees the trace, under a parent of its own, sampled';
unlike $sidecar->sql_value("SELECT response_body FROM attempts a JOIN deliveries d ON d.id = a.delivery_id WHERE d.event_id = '$plain'"),
    qr/^traceparent:/mi, 'no trace where there was none';
my @spans = map { JSON::PP->new->decode($_->{request_headers})->{traceparent} }
    $sidecar->sql("SELECT request_headers FROM attempts a JOIN deliveries d ON d.id = a.delivery_id WHERE d.event_id = '$failed'");
is scalar(@spans), 2, 'two attempts';
like $_, qr/\A00-$trace-[0-9a-f]{16}-00\z/, '... of one trace, not sampled' for @spans;
isnt $spans[0], $spans[1], '... each a span of its own';

my ($line) = grep { $_->{event_id} eq $traced } log_lines('delivery.attempt');
is_deeply [@$line{qw(webhook type attempt outcome status error_type trace level)}], [$good, 'good.one', 1, 'success', 200, 'none', $trace, 'info'],
    'a line for the attempt';
like $line->{time}, qr/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\z/, '... with its time';
ok defined $line->{$_}, "... with $_" for qw(delivery org duration_ms latency_ms);
my ($batch) = log_lines('ingest.batch');
ok $batch && $batch->{entries} >= 1 && exists $batch->{duration_ms}, 'a line for the batch';
my @log = split /\n/, $sidecar->process->log_text;
is scalar(grep { !eval { JSON::PP->new->decode($_) } } @log), 0, 'every line is JSON';
unlike $sidecar->process->log_text, qr/in-the-body|\Q$key\E|whsec_/, 'no body and no secret in the log';

# -- the status hash ----------------------------------------------------------------------------------------
my $name   = 'headgate:status:sidecar:' . hostname() . ':' . $sidecar->process->pid;
my $status = $t->wait_for('the status to be written', sub { my $h = { $redis->command('HGETALL', $name)->@* }; ($h->{delivered} // 0) == 2 && $h });
is_deeply [sort keys %$status], [
    sort qw(version uptime_ms drained oldest_undrained_ms oldest_due_ms delivered failed retrying dead in_flight in_memory duplicates quarantined shards lanes)],
    'members';
is_deeply [@$status{qw(drained failed dead retrying in_flight shards lanes)}], [3, 2, 1, 0, 0, 8, 256], '... and their numbers' or diag explain $status;
my $expires = $redis->command('PTTL', $name);
ok $expires > 0 && $expires <= 10_000, 'it goes 10 s after the process';

# -- headgate shards ------------------------------------------------------------------------------------------
my $shards = $sidecar->run_json('shards');
is scalar(@$shards), 8, 'headgate shards: all of them';
is_deeply [sort keys $shards->[0]->%*], [sort qw(shard owner epoch lease_until length pending lag)], '... each with its columns';
is_deeply [map { $_->{shard} } @$shards], [0 .. 7], '... in order';
like $shards->[0]{owner}, qr/:@{[ $sidecar->process->pid ]}(?::|\z)/, '... and its owner';
is $shards->[0]{lag}, 0, '... nothing is left';

# -- /health: what is due and does not start --------------------------------------------------------------------
sub reasons () { my $a = ask($sidecar->port, '/health'); [$a->status, join ' ', ($a->json->{reasons} // [])->@*] }
is_deeply reasons(), [200, ''], 'healthy';
# Endpoints that take connections and say nothing.
my @silent = map { IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64) // die $! } 1 .. 2;
$t->on_stop(sub { $_->close for @silent });
my $narrow = webhook('narrow.*', $silent[0]->sockport, max_in_flight => 1);
my $wide   = webhook('wide.*', $silent[1]->sockport);
sub age ($webhook) { system('sqlite3', '-cmd', '.timeout 10000', $sidecar->{database}, "UPDATE deliveries SET due_at = due_at - 61000 WHERE webhook_id = '$webhook' AND state = 'queued'") == 0 or die }
sub queued ($webhook) { $sidecar->sql_value("SELECT count(*) FROM deliveries WHERE webhook_id = '$webhook' AND state = 'queued'") }
sub oldest_due () { value('headgate_oldest_due_seconds') }
publish('narrow.one') for 1 .. 8;
$t->wait_for('a queue behind the narrow one', sub { queued($narrow) > 0 && value('headgate_deliveries_in_flight') == 1 });
age($narrow);
# The age is read once a second: that it was read after the change shows in a delivery that is newer.
publish('wide.one') for 1 .. 24;
$t->wait_for('a queue behind the wide one', sub { queued($wide) > 0 && oldest_due() > 0 });
is_deeply reasons(), [200, ''], 'a webhook with as many requests in flight as it takes is not overdue';
age($wide);
$t->wait_for('/health to tell of it', sub { reasons()->[0] == 503 });
like reasons()->[1], qr/\Athe oldest delivery that is free to start has been due for 6\d\d\d\d ms; the limit is 60000 ms\z/, 'one that nothing but the process holds back is';
$sidecar->sql_value('SELECT 1');
system('sqlite3', '-cmd', '.timeout 10000', $sidecar->{database}, "UPDATE deliveries SET due_at = due_at + 61000 WHERE state = 'queued'") == 0 or die;
$t->wait_for('/health to be good again', sub { reasons()->[0] == 200 });

# -- /health: the store locked, what waits in Redis, Redis silent -----------------------------------------------------
open(my $lock, '|-', 'sqlite3', '-cmd', '.timeout 10000', $sidecar->{database}) // die $!;
$lock->autoflush(1);
print $lock "BEGIN IMMEDIATE;\n.shell touch @{[ $t->path('locked') ]}\n";
$t->wait_for('the lock', sub { -e $t->path('locked') });
my $old = int(time - 61) . '000';
$redis->command('XADD', ($redis->streams)[0], '*', v => 1, id => '018f0000-0000-7000-8000-00000000000a', org => $sidecar->org, key => '', type => 'old.one',
    source => 's', payload => '{}', ord => '', tp => '', via => 'api', at => $old);
$t->wait_for('the backlog', sub { reasons()->[1] =~ /drained/ });
like reasons()->[1], qr/the oldest event not yet drained has waited for 6\d\d\d\d ms; the limit is 60000 ms/, 'what waits in Redis for too long';
$redis->process->signal('STOP');
$t->wait_for('both to be silent', sub { reasons()->[1] =~ /Redis has been silent for (\d+) ms; the limit is 5000 ms.*the store could not be read and written for (\d+) ms; the limit is 5000 ms/ });
is reasons()->[0], 503, 'Redis and the store are silent';
$redis->process->signal('CONT');
print $lock "COMMIT;\n";
close $lock;
$t->wait_for('/health to be good again', sub { reasons()->[0] == 200 });
pass 'and it is good again';

# -- the documentation ----------------------------------------------------------------------------------------------------
my $manual = $t->root . '/docs/operations.md';
open my $file, '<', $manual or die "$manual: $!";
my $text = do { local $/; <$file> };
$t->wait_for('the streams to be counted again, after the silence', sub { metrics()->{headgate_shard_entries} });
my %known = map { $_ => 1 } map { ($_, "${_}_bucket", "${_}_sum", "${_}_count") } keys metrics()->%*;
my %named;
$named{$1}++ while $text =~ /\b((?:headgate|process)_(?!edge_)[a-z_]+_(?:seconds|total|bytes|info|entries|stored|flight|memory|shards|lanes|breakers|projected|fds|sum|count|bucket))\b/g;
$named{headgate_breakers}++ if $text =~ /`headgate_breakers\{/;  # one word only, as directives have
is_deeply [grep { !$known{$_} } sort keys %named], [], 'every metric that docs/operations.md names exists';
is_deeply [grep { !$named{$_} } sort grep { !/\Aprocess_/ } keys metrics()->%*], [], '... and every metric is in it';

$_->close for @silent;
$t->done;
