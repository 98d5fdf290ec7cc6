# What operators are told: headgate_status as JSON, for Prometheus and OpenMetrics, and each worker's hash in Redis. All
# of them show the same numbers; none of them forgets what a worker counted that is gone.
use v5.36;
use List::Util qw(sum0);
use Sys::Hostname qw(hostname);
use Test::More;

use Headgate::Edge;
use Headgate::Metrics;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $redis = $t->redis;
my $edge  = Headgate::Edge->start(
    $t, redis => $redis, workers => 2, limit => 'headgate_limit plan; headgate_limit_mode exact;',
    http => 'log_format timing "$uri|$status|$headgate_redis_time|$request_time";',
    locations => <<~"CONF",
        location = /idle { headgate_auth jwt; access_log @{[ $t->dir('nginx') ]}/timing.log timing; empty_gif; }
        location = /clock { access_log off; return 200 \$msec; }
        location = /timed {
            headgate_auth jwt api_key;
            headgate_publish event;
            add_header X-Redis-Time \$headgate_redis_time;
            access_log @{[ $t->dir('nginx') ]}/timing.log timing;
        }
        CONF
);
my $nginx = $edge->nginx;
# The edge is ready with one worker already; a slow second one would show up as connecting.
$t->wait_for('both workers', sub { $edge->status->{worker_processes} == 2 });
$edge->wait_until_ready;
my $key   = $edge->add_key;
my $poor  = $edge->add_key(limits => '1r/h');

is $edge->publish(key => $key)->status, 201, 'an event' for 1 .. 3;
is $edge->publish(key => $poor)->status, 201, 'the first of one';
is $edge->publish(key => $poor)->status, 429, 'the second';
is $edge->publish->status, 401, 'a stranger';
is $edge->publish(key => $key, headers => ['X-Forwarded-For' => '1.2.3.4', Authorization => 'Bearer x.y.z'])->status, 400, 'two credentials';

# -- JSON --------------------------------------------------------------------------------------------
my $answer = $nginx->get('/status');
is $answer->header('Content-Type'),  'application/json', 'JSON unless something else is asked for';
is $answer->header('Cache-Control'), 'no-store',         '... which nobody keeps';
my $status = $answer->json;
is_deeply $status->{requests}, { total => 7, accepted => 5, limited => 1, refused => { missing => 1, ambiguous => 1 } }, 'requests by outcome'
    or diag explain $status;
is $status->{published}{events}, 4, 'events published';
is $status->{published}{inflight_bytes}, 0, 'nothing in flight';
is $status->{worker_processes}, 2, 'two workers';
is $status->{redis}{state}, 'ready', 'the worst of all connections';
is_deeply $status->{redis}{connections}, { ready => 2, connecting => 0, backoff => 0, idle => 0 }, 'and all of them';

# -- Prometheus and OpenMetrics ------------------------------------------------------------------------
my $text_type = 'text/plain; version=0.0.4; charset=utf-8';
my $open_type = 'application/openmetrics-text; version=1.0.0; charset=utf-8';
my $prometheus = 'application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1';
for my $case (
    ['?format=prometheus', undef, $text_type],
    ['', 'text/plain;version=0.0.4;q=0.5,*/*;q=0.1', $text_type],
    ['', 'TEXT/PLAIN; Version=0.0.4', $text_type],
    ['', $prometheus, $open_type],
    ['?format=prometheus', $prometheus, $open_type],
    ['?format=json', $prometheus, 'application/json'],
    ['', 'text/plain', 'application/json'],
    ['', '*/*', 'application/json'],
    ['', 'text/html,application/xhtml+xml,*/*;q=0.8', 'application/json'],
) {
    my ($arguments, $accept, $type) = @$case;
    my $got = $nginx->get("/status$arguments", headers => [defined $accept ? (Accept => $accept) : ()]);
    is $got->header('Content-Type'), $type, "/status$arguments with Accept: @{[ $accept // 'none' ]}";
    next if $type eq 'application/json';
    my $metrics = eval { Headgate::Metrics->parse($got->body, openmetrics => $type eq $open_type) };
    is $@, '', '... and the body is of that format' or next;
    my $family = sub ($name) { $metrics->{"headgate_edge_$name"} // {} };
    is $family->('requests_total')->{samples}{''}, 7, '... requests';
    is $family->('events_published_total')->{samples}{''}, 4, '... published';
    is $family->('requests_refused_total')->{samples}{'reason="missing"'}, 1, '... refused, by reason';
    is $family->('requests_refused_total')->{samples}{'reason="expired"'}, 0, '... zeros too';
    is $family->('redis_connections')->{samples}{'state="ready"'}, 2, '... connections, by state';
    is $family->('worker_processes')->{samples}{''}, 2, '... workers';
    is $family->('inflight_bytes')->{type}, 'gauge', '... in flight is a gauge';
    is_deeply [grep { !/\Aheadgate_edge_/ } keys %$metrics], [], '... all of one family of names';
}
my $file = $t->write_file('metrics.txt', $nginx->get('/status?format=prometheus')->body);
my $said = Headgate::Metrics->promtool($file);
SKIP: { skip 'promtool is not installed', 1 if !defined $said; is $said, '', 'promtool has no complaint' }

is $nginx->get('/status?format=xml')->status, 400, 'a format that there is not';
my $post = $nginx->request('POST', '/status', body => 'x');
is $post->status, 405, 'the status is read with GET';
is $post->header('Allow'), 'GET, HEAD', '... or HEAD';
is $nginx->request('HEAD', '/status')->status, 200, 'HEAD';

# -- the hash of each worker in Redis ------------------------------------------------------------------
my $host = lc(hostname) =~ s/([^a-z0-9._-])/sprintf '%%%02X', ord $1/ger;
sub reports () {
    my %report;
    for my $name ($redis->command('KEYS', 'headgate:status:edge:*')->@*) {
        my ($pid) = $name =~ /\Aheadgate:status:edge:\Q$host\E:(\d+)\z/ or die "what is $name?";
        $report{$pid} = { $redis->command('HGETALL', $name)->@* };
    }
    return \%report;
}
my @pids = sort { $a <=> $b } $nginx->worker_pids;
my $wanted = '4 5 7 1';
my $add_up = sub ($reports) { join ' ', map { my $field = $_; sum0 map { $_->{$field} } values %$reports } qw(published accepted requests limited) };
$t->wait_for('both workers to report all of it', sub { my $r = reports(); keys %$r == 2 && $add_up->($r) eq $wanted });
my $reports = reports();
is_deeply [sort { $a <=> $b } keys %$reports], \@pids, 'a hash for each worker';
is $add_up->($reports), $wanted, '... each with its own numbers, which add up';
is sum0(map { $_->{refused_missing} // 0 } values %$reports), 1, '... refused, by reason';
for my $pid (@pids) {
    is_deeply [grep { !/\Arefused_/ } sort keys $reports->{$pid}->%*],
        [qw(accepted inflight_bytes limited published requests uptime_ms version)], "... the fields of $pid";
    my $left = $redis->command('PTTL', "headgate:status:edge:$host:$pid");
    ok $left > 0 && $left <= 10_000, '... which expires within ten seconds' or diag $left;
}
my $uptime = $reports->{ $pids[0] }{uptime_ms};
$t->wait_for('the hash to be written again', sub { (reports()->{ $pids[0] }{uptime_ms} // 0) > $uptime });
pass '... and is written again and again';

# -- workers come and go, counts stay --------------------------------------------------------------------
($pids[0]) = grep { $reports->{$_}{published} } @pids;
kill 'KILL', $pids[0];
$t->wait_for('a worker in its place', sub { my @now = $nginx->worker_pids; @now == 2 && !grep { $_ == $pids[0] } @now });
$edge->wait_until_ready;
$t->wait_for('both to be counted', sub { $edge->status->{worker_processes} == 2 });
is $edge->status->{published}{events}, 4, 'a killed worker takes nothing it counted with it';
$nginx->expect_alarms(qr/worker process $pids[0] exited on signal 9/);
# It has the slot of the one before it, whose counters go on.
my ($new) = grep { !$reports->{$_} } $nginx->worker_pids;
$t->wait_for('the new worker to report', sub { reports()->{$new} });
is reports()->{$new}{published}, 0, "... and a worker's hash has its own numbers only";
is $edge->publish(key => $key)->status, 201, 'another event';
$nginx->reload;
$t->wait_for('the old workers to be gone', sub { $nginx->worker_pids == 2 });
$edge->wait_until_ready;
is $edge->status->{published}{events}, 5, 'a reload keeps what was counted';
$t->wait_for('the new workers to report', sub { my $r = reports(); 2 == grep { $r->{$_} } $nginx->worker_pids });
is sum0(map { reports()->{$_}{published} } $nginx->worker_pids), 0, "... and a worker's hash has its own numbers only";

# -- $headgate_redis_time ---------------------------------------------------------------------------------
my $token = $edge->token(scope => 'events:write', plan => 'unlimited');
is $nginx->get('/idle', headers => [Authorization => "Bearer $token"])->status, 200, 'a request that asks Redis nothing';
my $published = $edge->publish(token => $token, target => '/timed');
is $published->status, 201, 'and one that does';
like $published->header('X-Redis-Time'), qr/\A\d+\.\d{3}\z/, '$headgate_redis_time in a header';
$redis->process->signal('STOP');
my $slow = $nginx->connect;
$slow->send_bytes(Headgate::Http->format_request('POST', '/timed', headers => [$edge->headers(token => $token)], body => Headgate::Edge::event_body()));
$t->wait_for('the event to be in flight', sub { $edge->status->{published}{inflight_bytes} > 0 });
my $from = $nginx->get('/clock')->body;
$t->wait_for('something to measure', sub { $nginx->get('/clock')->body > $from + 0.1 });
$redis->process->signal('CONT');
is $slow->read_response->status, 201, 'one that waits for Redis';
# Its key is looked up at once, its body comes late: that wait is not for Redis.
my $late  = $nginx->connect;
my $bytes = Headgate::Http->format_request('POST', '/timed', headers => [$edge->headers(key => $key)], body => Headgate::Edge::event_body());
$late->send_bytes(substr $bytes, 0, -20);
$from = $nginx->get('/clock')->body;
$t->wait_for('the client to be slow', sub { $nginx->get('/clock')->body > $from + 0.3 });
$late->send_bytes(substr $bytes, -20);
is $late->read_response->status, 201, 'one that waits for its client';
my @lines;
$t->wait_for('four lines', sub { @lines = split /\n/, $t->read_file('nginx/timing.log'); @lines == 4 });
is +(split /\|/, $lines[0])[2], '-', 'empty where Redis was not asked';
like +(split /\|/, $lines[1])[2], qr/\A\d+\.\d{3}\z/, 'seconds and milliseconds in the log';
my ($waited, $taken) = (split /\|/, $lines[2])[2, 3];
ok $waited >= 0.05 && $waited <= $taken + 0.01, 'the time spent waiting is in it, and no more than the request took' or diag "$waited of $taken";
($waited, $taken) = (split /\|/, $lines[3])[2, 3];
ok $taken - $waited >= 0.1, '... and nothing else is' or diag "$waited of $taken";

# -- Redis away ----------------------------------------------------------------------------------------------
$redis->crash;
$edge->publish(key => $key) for 1 .. 2;
$t->wait_for('the connections to be counted as lost', sub { $edge->status->{redis}{connections}{backoff} + $edge->status->{redis}{connections}{connecting} > 0 });
isnt $edge->status->{redis}{state}, 'ready', 'the worst state is shown';
$redis->restart;

$t->done;
