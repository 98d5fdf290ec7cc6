# What all rows measure with: processor time of processes, medians, alternation, the disk's fsync.
package Headgate::Bench::Measure;
use v5.36;

use Exporter qw(import);
use IO::Handle ();
use Time::HiRes qw(time);

our @EXPORT_OK = qw(alternate cpu_ns fsync_ms median memory_mib memory_peak_mib);

# Processor time that all threads of the processes have used, user and system, in ns. The first number
# of schedstat is exact; /proc/PID/stat counts in ticks of 10 ms. A thread that has ended is not counted.
sub cpu_ns (@pids) {
    my $sum = 0;
    for my $path (map { glob "/proc/$_/task/*/schedstat" } @pids) {
        open my $file, '<', $path or next;
        $sum += (split ' ', <$file> // '0')[0];
    }
    return $sum;
}

sub median (@values) {
    my @sorted = sort { $a <=> $b } @values;
    my $middle = int(@sorted / 2);
    return @sorted % 2 ? $sorted[$middle] : ($sorted[$middle - 1] + $sorted[$middle]) / 2;
}

# Both sides once in each pair, in turns of who begins, so that neither always runs on the warmer or
# the noisier machine. Each side returns a hash of numbers. Returns ([ours], [theirs]).
sub alternate ($pairs, $say, $ours, $theirs) {
    my (@ours, @theirs);
    for my $pair (1 .. $pairs) {
        $say->("pair $pair of $pairs");
        my @turns = ([\@ours, $ours], [\@theirs, $theirs]);
        for my $turn ($pair % 2 ? @turns : reverse @turns) {
            my ($results, $run) = @$turn;
            push @$results, $run->();
        }
    }
    return (\@ours, \@theirs);
}

# A process's memory in MiB: `resident`; `zone`, the resident part of its shared mapping of `zone_mib`; `private`,
# what is in no other process, without the zone (the kernel calls a shared page private while one process alone
# has touched it).
sub memory_mib ($pid, $zone_mib) {
    my %sum = (resident => 0, zone => 0, private => 0);
    my ($found, $is_zone) = (0, 0);
    open my $file, '<', "/proc/$pid/smaps" or die "/proc/$pid/smaps: $!\n";
    while (<$file>) {
        if (/^([0-9a-f]+)-([0-9a-f]+) ...(.)/) {
            no warnings 'portable';
            $is_zone = $3 eq 's' && hex($2) - hex($1) == $zone_mib << 20;
            $found += $is_zone;
        }
        elsif (/^(Rss|Private_Dirty|Private_Clean): +(\d+) kB/) {
            $sum{resident} += $2 if $1 eq 'Rss';
            $sum{zone}     += $2 if $1 eq 'Rss' && $is_zone;
            $sum{private}  += $2 if $1 ne 'Rss' && !$is_zone;
        }
    }
    die "process $pid has $found mappings of $zone_mib MiB, not one\n" if $found != 1;
    return { map { $_ => $sum{$_} / 1024 } keys %sum };
}

# The most memory that a process had resident at once, so far, in MiB.
sub memory_peak_mib ($pid) {
    open my $file, '<', "/proc/$pid/status" or die "/proc/$pid/status: $!\n";
    local $/;
    my ($kib) = <$file> =~ /^VmHWM:\s+(\d+) kB/m or die "process $pid has no VmHWM\n";
    return $kib / 1024;
}

# How long the disk below a directory takes to make 4 KiB durable: (median, least, most) of 64 appends, in ms.
sub fsync_ms ($directory) {
    my $path = "$directory/fsync-probe";
    open my $file, '>:raw', $path or die "$path: $!\n";
    my @times;
    for (1 .. 64) {
        syswrite $file, 'x' x 4096;
        my $begun = time;
        $file->sync // die "fsync $path: $!\n";
        push @times, (time - $begun) * 1000;
    }
    close $file;
    unlink $path;
    my @sorted = sort { $a <=> $b } @times;
    return (median(@times), $sorted[0], $sorted[-1]);
}

1;
