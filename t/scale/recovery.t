# What recovery does with very many deliveries (`make scale`): a replay of REPLAY events to one webhook, paused, resumed and
# killed in its middle while live events go to the same webhook and to another one; and a start with DUE deliveries that
# have been due for an hour, killed while it spreads them. Rows are written into the store by SQL. What was measured is
# printed; nothing here fails for being slow but what waits for a deadline.
#
#   REPLAY=100000 DUE=1000000   0: without
#   STORES="sqlite postgres"
#   MEMORY_MIB=256   no `headgate serve` may ever have used more
use v5.36;
use List::Util qw(first max);
use Test::More;
use Time::HiRes qw(sleep time);

use Headgate::Credentials qw(json);
use Headgate::Edge;
use Headgate::Http;
use Headgate::Postgres;
use Headgate::Receiver;
use Headgate::Test;

my $events = $ENV{REPLAY} // 100_000;
my $due    = $ENV{DUE}    // 1_000_000;
my @stores = split ' ', $ENV{STORES} || 'sqlite postgres';
my $memory = $ENV{MEMORY_MIB} || 256;
/\A[0-9]+\z/ or die "not a whole number: $_\n" for $events, $due, $memory;
my $patience = 30 + max($events, $due) / 1000;    # seconds; a machine that is ten times slower than ours is all right

for my $store (@stores) {
    subtest "$store: a replay of $events" => sub { replay_of(world($store), $events) }
        if $events;
    subtest "$store: a start with $due due" => sub { start_with(world($store), $due) }
        if $due;
}
done_testing();

# ---- what both need ------------------------------------------------------------------------------

# { t, h, receiver, store }: `headgate serve` beside a Redis and an nginx.
sub world ($store) {
    my $t        = Headgate::Test->new;
    my $postgres = $store eq 'postgres' ? Headgate::Postgres->start($t) : undef;
    my $receiver = Headgate::Receiver->start($t);
    my $h        = $t->sidecar(redis => $t->redis, postgres => $postgres)->serve->wait_until_healthy;
    $h->front;
    return { t => $t, h => $h, receiver => $receiver, store => $store };
}

# Of the server that runs, in MiB; checked before each of its ends, as the next one begins anew.
sub check_memory ($w) {
    my ($kib) = $w->{t}->read_file("/proc/@{[ $w->{h}->process->pid ]}/status") =~ /^VmHWM:\s+(\d+) kB/m;
    my $mib = int $kib / 1024;
    cmp_ok $mib, '<=', $memory, "at most $memory MiB of memory: $mib";
}

sub api ($w, $method, $target, $body = undef) {
    my @headers = ('X-API-Key' => $w->{h}->api_key);
    push @headers, 'Content-Type' => 'application/json' if defined $body;
    return Headgate::Http->connect(port => $w->{h}->port)->request($method, $target, headers => \@headers, defined $body ? (body => $body) : ());
}
sub data ($w, $method, $target, $body = undef, $status = 200) {
    my $answer = api($w, $method, $target, $body);
    $w->{t}->die_with_logs("$method $target: " . $answer->status . ' ' . $answer->body) if $answer->status != $status;
    return $answer->json->{data};
}
sub webhook ($w, $path, @types) {
    return data($w, 'POST', '/api/webhooks', json({ url => $w->{receiver}->url($path), events => \@types }), 201)->{webhook}{id};
}

# A live event: noted with the time before it was published. On a machine this busy Redis may be late: 503, and again.
sub publish ($w, $path, $type) {
    my $began  = time;
    my $answer = $w->{t}->wait_for(
        'an event to be taken',
        sub {
            my $got = $w->{h}{front}->request(
                'POST', '/events', headers => ['Content-Type' => 'application/json', 'X-API-Key' => $w->{h}->api_key],
                body => Headgate::Edge::event_body(type => $type),
            );
            $w->{t}->die_with_logs('publishing: ' . $got->status) if $got->status != 201 && $got->status != 503;
            return $got->status == 201 ? $got : undef;
        }
    );
    push $w->{live}->@*, { key => "$path " . $answer->json->{id}, path => $path, at => $began };
    return $w->{live}[-1];
}
sub arrival ($w, $event) { ($w->{receiver}->received->{ $event->{key} } // [])->[0] }

# Latencies of a path's live events, after so large a part of them has come.
sub show_live ($w, $path, $part = 1) {
    my @of_path = grep { $_->{path} eq $path } $w->{live}->@*;
    my $come    = sub { grep { arrival($w, $_) } @of_path };
    $w->{t}->wait_for("the live events of $path", sub { $come->() >= $part * @of_path }, $patience);
    my @ms = sort { $a <=> $b } map { 1000 * (arrival($w, $_) - $_->{at}) } $come->();
    diag sprintf '%s: %d of %d live events to %s meanwhile: p50 %.0f ms, p99 %.0f ms, longest %.0f ms', $w->{store}, scalar @ms, scalar @of_path, $path, $ms[@ms / 2], $ms[$#ms * 0.99], $ms[-1];
}

# Rows 1 … $count: of the WITH clause, and the id of one whose ids begin with these eight digits.
sub rows ($w, $count) {
    return $w->{h}{postgres} ? "WITH n AS (SELECT generate_series(1, $count) AS i)" : "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $count)";
}
sub id_of ($w, $first) {
    return $w->{h}{postgres} ? "'$first-0000-7000-8000-' || lpad(to_hex(i), 12, '0')" : "printf('$first-0000-7000-8000-%012x', i)";
}

# $count events of this type that came one a millisecond, the last of them half an hour ago. Behind those that are there.
sub add_events ($w, $count, $type) {
    my ($h, $from) = ($w->{h}, int(1000 * time) - 1_800_000 - $count);
    my ($org, $payload) = ($h->org, '{"text":"' . 'x' x 150 . '"}');
    $h->change("@{[ rows($w, $count) ]} INSERT INTO events (id, organization_id, seq, key_id, type, source, payload, ordering_key, traceparent, via, status, created_at, updated_at)"
            . " SELECT @{[ id_of($w, '01930000') ]}, '$org', (SELECT seq FROM organizations WHERE id = '$org') + i, 'key', '$type', 'scale', '$payload', '', '', 'api', 'pending', $from + i, $from + i FROM n");
    $h->change("UPDATE organizations SET seq = seq + $count WHERE id = '$org'");
}

# The bound below which all, and above which no, visits to the store stayed.
sub longest_store_work ($w) {
    my $text = Headgate::Http->connect(port => $w->{h}->port)->request('GET', '/metrics')->body;
    my ($all) = $text =~ /^headgate_store_work_seconds_count (\d+)/m or die 'no headgate_store_work_seconds';
    my %at_most = $text =~ /^headgate_store_work_seconds_bucket\{le="([^"]+)"\} (\d+)/mg;
    return first { $at_most{$_} == $all } sort { ($a eq '+Inf') <=> ($b eq '+Inf') || ($a eq '+Inf' ? 0 : $a <=> $b) } keys %at_most;
}

# Has the server logged a line like this since the last call that found one?
sub has_logged ($w, $pattern) {
    open my $file, '<', $w->{h}->process->log or return 0;
    seek $file, $w->{log_at} // 0, 0;
    while (my $line = <$file>) {
        last if $line !~ /\n\z/;
        $w->{log_at} = tell $file;
        return 1 if $line =~ $pattern;
    }
    return 0;
}

sub finish ($w) {
    check_memory($w);
    $w->{t}->teardown;
    $w->{t}->remove_directory;
}

# ---- a replay ------------------------------------------------------------------------------------

sub replay_of ($w, $count) {
    my ($t, $h, $receiver) = @$w{qw(t h receiver)};
    add_events($w, $count, 'bulk.made');
    my $bulk = webhook($w, 'bulk', 'bulk.*');
    webhook($w, 'other', 'other.*');
    my %ask = (since => '2001-01-01T00:00:00Z', which => 'missing');
    my $began = time;
    is data($w, 'POST', "/api/webhooks/$bulk/replay", json({ %ask, dry_run => JSON::PP::true }))->{total}, $count, 'the exact count';
    diag sprintf '%s: counted in %.2f s', $w->{store}, time - $began;
    my $id = data($w, 'POST', "/api/webhooks/$bulk/replay", json(\%ask), 202)->{replay}{id};
    my ($started, $last_live, $ended) = (time, 0);

    # How far it is; with live events every 50 ms.
    my $progress = sub {
        if (time > $last_live + 0.05) {
            publish($w, @$_) for ['bulk', 'bulk.live'], ['other', 'other.live'];
            $last_live = time;
        }
        return data($w, 'GET', "/api/replays/$id")->{replay};
    };
    my $until = sub ($what, $condition) {
        return $t->wait_for($what, sub { my $now = $progress->(); $condition->($now) ? $now : undef }, $patience);
    };
    $until->('a third of it', sub ($now) { $now->{succeeded} >= $count / 3 });
    is data($w, 'POST', "/api/replays/$id/pause")->{replay}{state}, 'paused', 'pause';
    my $paused = $until->('what was made to be sent', sub ($now) { $now->{succeeded} == $now->{made} });
    cmp_ok $paused->{made}, '<', $count, 'in its middle';
    my @before = $w->{live}->@*;
    is $progress->()->{made}, $paused->{made}, 'a paused replay makes nothing';
    is data($w, 'POST', "/api/replays/$id/resume")->{replay}{state}, 'running', 'resume';
    $until->('two thirds of it', sub ($now) { $now->{succeeded} >= $count * 2 / 3 });
    check_memory($w);
    $h->crash;
    my $down = time;
    publish($w, @$_) for ['bulk', 'bulk.live'], ['other', 'other.live'];
    $h->serve;
    my $up = time - $down;
    is data($w, 'GET', "/api/replays/$id")->{replay}{state}, 'running', 'SIGKILL and a restart in the middle of it';
    my $done = $until->('the replay to end', sub ($now) { $now->{state} eq 'done' && $now->{succeeded} + $now->{failed} >= $count });
    my $seconds = ($ended = time) - $started;
    is_deeply [@$done{qw(total made succeeded failed)}], [$count, $count, $count, 0], 'ends exactly at the count';

    my $received = $receiver->received;
    my ($arrived, $repeated) = (0, 0);
    for my $key (grep { /\Abulk 01930000-0000-/ } keys %$received) {
        $arrived++;
        $repeated += $received->{$key}->@* - 1;
    }
    is $arrived, $count, 'every one of them has arrived';
    cmp_ok $repeated, '<=', 256, "what was in flight at the SIGKILL came again, with the same webhook-id: $repeated";
    is scalar(grep { (arrival($w, $_) // $ended) >= $ended } @before), 0, 'live events from before its pause were delivered before its end';
    is data($w, 'POST', "/api/webhooks/$bulk/replay", json({ %ask, dry_run => JSON::PP::true }))->{total}, 0, 'nothing is missing any more';
    diag sprintf '%s: replayed %d in %.1f s (%.0f a second, with a pause and a restart of %.1f s); twice: %d; longest visit to the store: at most %s s', $w->{store}, $count, $seconds,
        $count / $seconds, $up, $repeated, longest_store_work($w);
    show_live($w, $_) for qw(bulk other);
    finish($w);
}

# ---- a start with very many due ------------------------------------------------------------------

sub start_with ($w, $count) {
    my ($t, $h, $receiver) = @$w{qw(t h receiver)};
    my $bulk = webhook($w, 'bulk', 'bulk.*');
    webhook($w, 'other', 'other.*');
    my @first = map { publish($w, @$_) } ['bulk', 'bulk.live'], ['other', 'other.live'];
    $t->wait_for('the first events', sub { !grep { !arrival($w, $_) } @first });
    $t->wait_for('their results', sub { $h->sql_value("SELECT count(*) AS n FROM deliveries WHERE state = 'success'") == 2 });
    $w->{live} = [];
    $h->process->stop;
    add_events($w, $count, 'bulk.made');
    my $from = int(1000 * time) - 3_600_000;
    my $org  = $h->org;
    $h->change("@{[ rows($w, $count) ]} INSERT INTO deliveries (id, organization_id, webhook_id, event_id, state, status, attempts, due_at, generation, lane, shard, stream_ms, stream_seq, created_at, updated_at)"
            . " SELECT @{[ id_of($w, '01930001') ]}, '$org', '$bulk', @{[ id_of($w, '01930000') ]}, CASE WHEN i % 2 = 0 THEN 'retrying' ELSE 'queued' END, CASE WHEN i % 2 = 0 THEN 'failed' ELSE 'pending' END, 1 - i % 2,"
            . " $from + i / 100, (SELECT generation FROM organizations WHERE id = '$org'), (SELECT lane FROM deliveries WHERE webhook_id = '$bulk' LIMIT 1), 0, 0, i, $from, $from FROM n");
    $h->change('ANALYZE') if $h->{postgres};
    my $overdue = sub { $h->sql_value("SELECT count(*) AS n FROM deliveries WHERE webhook_id = '$bulk' AND state IN ('queued', 'retrying') AND due_at < $from + 3000000") };
    is $overdue->(), $count, "$count have been due for an hour";

    # Killed while it spreads them. With few of them it may have ended: then nothing is interrupted, and the rest holds all the same.
    my $begun = time;
    $h->serve;
    diag sprintf '%s: listens after %.2f s', $w->{store}, time - $begun;
    $t->wait_for('some to be spread', sub { $h->sql_value("SELECT max(due_at) AS at FROM deliveries WHERE webhook_id = '$bulk' AND state IN ('queued', 'retrying')") > $from + 3_000_000 }, $patience);
    check_memory($w);
    $h->crash;
    my $left = $overdue->();
    diag "$w->{store}: SIGKILL when $left were to be spread yet";

    $begun = time;
    has_logged($w, qr/event=delivery\.overdue_spread /);
    $h->serve;
    my %health;
    my $spread_after = $left ? undef : 0;
    my ($slowest, $last_live) = (0, 0);
    my $http = Headgate::Http->connect(port => $h->port);
    $t->wait_for(
        'the rest to be spread, and live events meanwhile',
        sub {
            my $asked = time;
            my $live  = $http->request('GET', '/live');
            $slowest = max $slowest, time - $asked;
            $t->die_with_logs('/live: ' . $live->status) if $live->status != 200;
            my $health = $http->request('GET', '/health');
            $health{ $health->status }++;
            # Unavailable with its reasons, or well.
            $t->die_with_logs('/health: ' . $health->body) if ($health->status == 200) != ($health->json->{reasons}->@* == 0);
            $w->{said}{$_}++ for map { s/\d+/…/gr } $health->json->{reasons}->@*;
            if (time > $last_live + 0.1) {
                publish($w, @$_) for ['bulk', 'bulk.live'], ['other', 'other.live'];
                $last_live = time;
            }
            $spread_after //= time - $begun if has_logged($w, qr/event=delivery\.overdue_spread /);
            return defined $spread_after && arrival($w, $w->{live}[0]) && arrival($w, $w->{live}[1]);
        },
        $patience
    );
    diag sprintf '%s: %d spread within %.1f s of the start; /live took at most %.0f ms; /health said %s %s', $w->{store}, $count, $spread_after, 1000 * $slowest,
        join(', ', map { "$_ $health{$_} times" } sort keys %health), join '; ', sort keys(($w->{said} // {})->%*);
    my $waiting = $h->sql_value("SELECT count(*) AS n FROM deliveries WHERE webhook_id = '$bulk' AND state IN ('queued', 'retrying', 'in_flight')");
    cmp_ok $waiting, '>', 0, "new events are delivered while the rest waits: $waiting" if $count > 20_000;
    my $sent_from = [time, scalar grep { /\Abulk 0193/ } keys $receiver->received->%*];
    my $stop_at = time + ($ENV{WATCH_SECONDS} // 0);
    while (time < $stop_at) {
        publish($w, @$_) for ['bulk', 'bulk.live'], ['other', 'other.live'];
        $http->request('GET', '/health')->status == 200 or $health{late}++;
        sleep 0.1;
    }
    my $sent = scalar grep { /\Abulk 0193/ } keys $receiver->received->%*;
    diag sprintf '%s: then %.0f a second; /health was not well %d times', $w->{store}, ($sent - $sent_from->[1]) / (time - $sent_from->[0]), $health{late} // 0 if $ENV{WATCH_SECONDS};
    diag "$w->{store}: longest visit to the store: at most @{[ longest_store_work($w) ]} s";
    # A new event that found no room in memory waits behind what is due before it.
    show_live($w, 'bulk', 0.5);
    show_live($w, 'other');
    my $kept = $h->sql_value("SELECT count(*) AS n FROM deliveries WHERE id < '01930002' AND state IN ('queued', 'retrying', 'in_flight', 'success')");
    is $kept, $count, 'none of them is missing';
    finish($w);
}
